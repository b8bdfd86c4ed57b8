"""What a network configuration becomes by joining and leaving, for any configuration that there can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.cni import chain

ENTRY = chain.plugin_entry(Path("/run/jfe/agent.sock"), 20)
OLDER = {"type": "jfe", "agentSocket": "/elsewhere", "gone": 1}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.text().filter(lambda key: key not in {"type", "plugins"}), VALUES, max_size=4)


@st.composite
def plugins(draw: st.DrawFn) -> dict[str, Any]:
    """Of others."""
    return {**draw(FIELDS), "type": draw(st.text(min_size=1).filter(lambda kind: kind != "jfe"))}


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Any]:
    return {**draw(FIELDS), "plugins": draw(st.lists(plugins(), min_size=1, max_size=4)), **draw(FIELDS)}


@given(lists())
def test_who_joins_and_leaves_has_changed_nothing(document: dict[str, Any]) -> None:
    assert chain.left(chain.joined(document, ENTRY)) == document


@given(lists())
def test_to_join_twice_is_to_join_once(document: dict[str, Any]) -> None:
    once = chain.joined(document, ENTRY)
    assert chain.joined(once, ENTRY) == once


@given(lists())
def test_a_newcomer_is_last_and_all_others_are_as_they_were_in_their_order(document: dict[str, Any]) -> None:
    joined = chain.joined(document, ENTRY)
    assert joined["plugins"] == [*document["plugins"], ENTRY]
    assert list(joined) == list(document)
    assert {**joined, "plugins": None} == {**document, "plugins": None}


@given(lists(), st.data())
def test_older_entries_of_ours_are_one_new_one_where_the_first_stood(
    document: dict[str, Any], data: st.DataObject
) -> None:
    others = document["plugins"]
    first = data.draw(st.integers(0, len(others)))
    with_older = [*others[:first], OLDER, *others[first:], OLDER]
    joined = chain.joined({**document, "plugins": with_older}, ENTRY)
    assert joined["plugins"] == [*others[:first], ENTRY, *others[first:]]


@given(lists())
def test_what_is_written_is_read_as_the_same(document: dict[str, Any]) -> None:
    assert chain.parse(chain.serialised(document)) == document


@given(lists())
def test_the_input_is_left_alone(document: dict[str, Any]) -> None:
    before = json.dumps(document)
    chain.left(chain.joined(document, ENTRY))
    assert json.dumps(document) == before


@given(plugins(), st.text(min_size=1))
def test_a_single_configuration_becomes_a_list_of_one_with_its_name_and_version(
    plugin: dict[str, Any], name: str
) -> None:
    single = {**plugin, "name": name, "cniVersion": "0.4.0"}
    assert chain.promoted(single) == {"cniVersion": "0.4.0", "name": name, "plugins": [single]}


def test_a_list_of_ours_alone_is_nothing_once_we_have_left() -> None:
    assert chain.left({"name": "x", "plugins": [ENTRY]}) is None
    assert chain.left({"name": "x", **ENTRY}) is None


def test_we_are_found_however_deep_multus_keeps_us() -> None:
    delegated = {"type": "multus", "delegates": [{"name": "x", "plugins": [{"type": "flannel"}, OLDER]}]}
    assert chain.names_plugin(delegated)
    assert not chain.has_own(delegated)
    assert not chain.names_plugin({"type": "multus", "comment": "jfe", "delegates": [{"name": "jfe"}]})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b'{"a": NaN}', b'{"a": 1e999}', b'\xef\xbb\xbf{"a": 1}', b"[" * 100_000, b'{"a": }'],
)
def test_what_a_runtime_would_not_read_is_not_read(content: bytes) -> None:
    assert chain.parse(content) is None


def test_bytes_that_are_no_text_are_read_as_go_reads_them() -> None:
    assert chain.parse(b'{"name": "\xff"}') == {"name": "\ufffd"}
