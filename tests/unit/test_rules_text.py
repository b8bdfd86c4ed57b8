"""Rulesets as text: the golden files, and what must hold for every intent."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.rules.host import host_ruleset
from jfe_cni.rules.model import (
    Cgroup,
    ConnectionTuple,
    Exemption,
    Former,
    HostIntent,
    HostWorkload,
    Mark,
    Mode,
    NamespaceIntent,
)
from jfe_cni.rules.namespace import namespace_ruleset
from jfe_cni.rules.removal import removal
from jfe_cni.rules.text import quoted
from tests.unit.rules_examples import BARE, EXEMPTION, examples

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("name", sorted(examples()))
def test_the_ruleset_is_the_golden_one(name: str) -> None:
    """Write them anew, after having read the difference: python -m tests.unit.test_rules_text"""
    assert examples()[name].text == (GOLDEN / f"{name}.nft").read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.nft")} == set(examples())


@pytest.mark.parametrize("name", sorted(examples()))
def test_every_rule_has_its_reason_and_every_base_chain_its_tag(name: str) -> None:
    lines = examples()[name].text.splitlines()
    for before, line in itertools.pairwise(lines):
        plain = line.strip()
        if plain and not plain.startswith(
            ("#", "comment", "type ", "chain ", "table ", "add ", "delete ", "set ", "typeof ", "}", "elements")
        ) and not re.match(r"[0-9a-f:.]+ \. |counter [a-z0-9-]+ \{\}$", plain):  # fmt: skip
            assert before.strip().startswith("# "), line
        if plain.startswith("type "):
            assert before.strip().startswith('comment "jfe '), line


@pytest.mark.parametrize("name", sorted(examples()))
def test_the_table_is_replaced_in_one_transaction(name: str) -> None:
    ruleset = examples()[name]
    first, second, third, *_ = ruleset.text.splitlines()
    target = f"{ruleset.family} {ruleset.table}"
    assert (first, second, third) == (f"add table {target}", f"delete table {target}", f"table {target} {{")
    assert removal(ruleset.family, ruleset.table).text.splitlines() == [first, second]


def test_the_mark_is_one_bit_set_and_tested_under_itself() -> None:
    for name, ruleset in examples().items():
        for mark in ("meta mark", "ct mark"):
            rules = re.sub(r"#.*", "", ruleset.text)
            rest = rules.replace(f"{mark} set {mark} | 0x00400000", "")
            rest = re.sub(rf"{mark} & 0x00400000 == (0x00400000|0)(?=\s)", "", rest)
            assert mark not in rest, name


def test_the_order_in_which_workloads_are_named_does_not_matter() -> None:
    workloads = [
        HostWorkload(f"w{n}", Cgroup(f"a/w{n}", 2 + n % 2), 61000 + 2 * n, 61001 + 2 * n, Mode.STRICT, (90 + n,))
        for n in range(6)
    ]
    wanted = host_ruleset(HostIntent(Mark(), EXEMPTION, tuple(workloads)))
    random.Random(1).shuffle(workloads)
    assert host_ruleset(HostIntent(Mark(), EXEMPTION, tuple(workloads))) == wanted
    assert wanted.workloads == tuple(f"w{n}" for n in range(6))


def test_nor_does_the_order_of_bare_connections() -> None:
    intent = NamespaceIntent("w", Mark(), 1, 2, True, Mode.PERMISSIVE, EXEMPTION, BARE)
    turned = dataclasses.replace(intent, bare=BARE[::-1])
    assert namespace_ruleset(intent) == namespace_ruleset(turned)


def test_the_nearer_of_two_cgroups_decides() -> None:
    outer = HostWorkload("outer", Cgroup("a", 1), 61001, 61002, Mode.STRICT)
    inner = HostWorkload("inner", Cgroup("a/b", 2), 61003, 61004, Mode.STRICT)
    text = host_ruleset(HostIntent(Mark(), EXEMPTION, (outer, inner))).text
    assert text.index('map { "a/b" : 61003 }') < text.index('map { "a" : 61001 }')


@given(st.builds(Former, *[st.integers(0, 1)] * 2, st.one_of(st.none(), st.integers(0, 1)), st.booleans()))
def test_what_was_before_is_read_back_from_the_tables_comment(former: Former) -> None:
    ruleset = namespace_ruleset(NamespaceIntent("w" * 64, Mark(), 1, 2, True, Mode.STRICT, EXEMPTION), former)
    comment = re.search(r'^\tcomment "([^"]*)"$', ruleset.text, re.MULTILINE)
    assert comment is not None
    assert Former.parse(comment.group(1)) == former


@pytest.mark.parametrize("comment", ["", "jfe workload former", "former 0 0 0", "former 2 0 0 0", "former 0 0 0 01"])
def test_what_is_no_such_record_is_not_read_as_one(comment: str) -> None:
    assert Former.parse(comment) is None


@given(st.text())
def test_no_text_breaks_out_of_its_quotes(text: str) -> None:
    try:
        written = quoted(text)
    except ValueError:
        return
    assert written == f'"{text}"'
    assert not re.search(r'["\\\x00-\x1f\x7f]', text)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_name_changes_the_structure_of_a_ruleset(workload: str, path: str) -> None:
    """Whatever is accepted gives as many lines, braces and quotes as a plain name does."""
    plain = HostIntent(Mark(), EXEMPTION, (HostWorkload("w", Cgroup("p", 1), 61001, 61002, Mode.STRICT),))
    try:
        hosted = HostWorkload(workload, Cgroup(path, 1), 61001, 61002, Mode.STRICT)
    except RequestError:
        return
    text, usual = (host_ruleset(HostIntent(Mark(), EXEMPTION, (w,))).text for w in (hosted, plain.workloads[0]))
    assert text.count("\n") == usual.count("\n")
    assert text.count('"') == usual.count('"')
    assert text.replace(f'"{path}"', '"p"').replace(workload, "w") == usual.replace("w", "w") or workload in usual


@given(st.ip_addresses(), st.ip_addresses(), st.integers(1, 65535), st.integers(1, 65535))
def test_any_bare_connection_is_one_element(
    local: IPv4Address | IPv6Address, remote: IPv4Address | IPv6Address, near: int, far: int
) -> None:
    if local.version != remote.version:
        with pytest.raises(RequestError):
            ConnectionTuple(local, near, remote, far)
        return
    bare = (ConnectionTuple(local, near, remote, far),)
    text = namespace_ruleset(NamespaceIntent("w", Mark(), 1, 2, True, Mode.PERMISSIVE, EXEMPTION, bare)).text
    assert f"elements = {{ {local} . {near} . {remote} . {far} }}" in text


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mark(0),
        lambda: Mark(3),
        lambda: Mark(1 << 32),
        lambda: Mark(table=254),
        lambda: Cgroup("", 1),
        lambda: Cgroup("/a", 1),
        lambda: Cgroup('a"b', 1),
        lambda: Cgroup("a\nb", 1),
        lambda: Cgroup("a\\b", 1),
        lambda: Cgroup("a*", 1),
        lambda: Cgroup("a", 0),
        lambda: Cgroup("a", 256),
        lambda: NamespaceIntent("A", Mark(), 1, 2, True, Mode.STRICT, EXEMPTION),
        lambda: NamespaceIntent("w" * 65, Mark(), 1, 2, True, Mode.STRICT, EXEMPTION),
        lambda: NamespaceIntent("w", Mark(), 0, 2, True, Mode.STRICT, EXEMPTION),
        lambda: NamespaceIntent("w", Mark(), 1, 65536, True, Mode.STRICT, EXEMPTION),
        lambda: NamespaceIntent("w", Mark(), 1, 2, True, Mode.STRICT, EXEMPTION, BARE),
        lambda: HostWorkload("w", Exemption("a", 1), 1, 2, Mode.STRICT, bare=BARE),
        lambda: HostIntent(Mark(), EXEMPTION, (HostWorkload("w", Cgroup("a", 1), 1, 1, Mode.STRICT),)),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(make: object) -> None:
    with pytest.raises(RequestError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.remedy


if __name__ == "__main__":
    for name, ruleset in examples().items():
        (GOLDEN / f"{name}.nft").write_text(ruleset.text)
