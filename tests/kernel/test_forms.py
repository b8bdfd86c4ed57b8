"""What `nft` has made of a ruleset is put into namespaces without it, and is the same there, or else `nft` loads it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from struct import pack

import pytest

from jfe_cni.errors import CgroupGone, KernelError
from jfe_cni.kernel import forms, tables
from jfe_cni.kernel.cgroups import CgroupTree
from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.forms import Form, Forms, content
from jfe_cni.kernel.loading import Loader
from jfe_cni.kernel.namespace import Namespace, fresh_namespace, run_inside
from jfe_cni.kernel.netlink import NLM_F_APPEND, NLM_F_CREATE, Change, attribute, text
from jfe_cni.kernel.tables import NEWCHAIN, NEWOBJ, NEWRULE, NEWSET, NEWSETELEM, Part
from jfe_cni.rules.model import Former, Mark, Mode, NamespaceIntent
from jfe_cni.rules.namespace import FAMILY, TABLE, namespace_ruleset, record
from tests.kernel import lab
from tests.kernel.lab import CountedNft, Host, Listeners, NoForms, Upgrader
from tests.unit.rules_examples import BARE

LISTENERS = Listeners(61001, 61002)
READ = partial(tables.read, FAMILY, TABLE)
FORMER = Former(0, 0, 0, loopback_up=True)
Tamper = Callable[[tuple[Change, ...]], tuple[Change, ...]]


@pytest.fixture
def first(pod: Host) -> Iterator[Namespace]:
    with pod.open() as namespace:
        yield namespace


@pytest.fixture
def second(peer: Host) -> Iterator[Namespace]:
    with peer.open() as namespace:
        yield namespace


@pytest.fixture
def counted() -> CountedNft:
    return CountedNft()


def intent_of(
    upgrader: Upgrader, workload: str = "w1", *, ipv6: bool = True, mode: Mode = Mode.STRICT
) -> NamespaceIntent:
    return replace(upgrader.intent(LISTENERS, mode), workload=workload, ipv6=ipv6)


async def content_in(namespace: Namespace) -> str:
    _, parts = await run_inside(namespace, READ)
    return content(parts)


async def install_elsewhere(cover: Cover, intent: NamespaceIntent) -> tuple[str, ...]:
    with await fresh_namespace() as namespace:
        return await cover.install_namespace(intent, namespace)


def without_comment(host: Host) -> str:
    """Its rules but for the table's comment."""
    return re.sub(r'^\tcomment ".*"$', "", host.rules(), count=1, flags=re.MULTILINE)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("ipv6", [True, False], ids=["ipv4-ipv6", "ipv4"])
async def test_a_form_makes_the_table_that_nft_makes(
    pod: Host, peer: Host, first: Namespace, second: Namespace, counted: CountedNft, upgrader: Upgrader,
    mode: Mode, ipv6: bool,
) -> None:  # fmt: skip
    intent = intent_of(upgrader, ipv6=ipv6, mode=mode)
    await Cover(forms=NoForms()).install_namespace(intent, first)
    cover = Cover(counted)
    with await fresh_namespace() as another:
        await cover.install_namespace(replace(intent, workload="w2"), another)
    assert counted.loads == 1
    # What is not in the form: the workload, and what was before.
    peer.command("sysctl", "-qw", "net.ipv4.fwmark_reflect=1")
    assert await cover.install_namespace(intent, second) == ()
    assert counted.loads == 1
    assert without_comment(peer) == without_comment(pod)
    assert 'comment "jfe workload w1 former 0 1 0 1"' in peer.rules()
    assert await content_in(second) == await content_in(first)
    # It is known as one that was loaded.
    assert await cover.check_namespace(intent, second) == ()
    assert cover.proof(second) is not None
    peer.command("nft", "insert rule inet jfe outbound accept")
    assert "has been changed" in " ".join(await cover.check_namespace(intent, second))


async def test_another_ruleset_is_another_form(counted: CountedNft, upgrader: Upgrader, tree: CgroupTree) -> None:
    cover = Cover(counted)
    plain = intent_of(upgrader)
    other = tree.create(f"{upgrader.made.path}-another")
    different = (
        plain,
        replace(plain, outbound_port=61003),
        replace(plain, inbound_port=61003),
        replace(plain, ipv6=False),
        replace(plain, mark=Mark(1 << 20)),
        replace(plain, exemption=tree.exemption(str(other.path))),
    )
    for number, intent in enumerate(different, 1):
        await install_elsewhere(cover, intent)
        assert counted.loads == number
    # All are still there.
    for intent in different:
        await install_elsewhere(cover, replace(intent, workload="w2"))
    assert counted.loads == len(different)


async def test_of_pods_that_come_at_once_nft_serves_the_first(counted: CountedNft, upgrader: Upgrader) -> None:
    cover = Cover(counted)
    names = [f"w{number}" for number in range(8)]
    assert set(await asyncio.gather(*(install_elsewhere(cover, intent_of(upgrader, name)) for name in names))) == {()}
    assert counted.loads == 1


async def test_bare_connections_are_in_no_form(
    pod: Host, first: Namespace, counted: CountedNft, upgrader: Upgrader
) -> None:
    cover, intent = Cover(counted), replace(intent_of(upgrader, mode=Mode.PERMISSIVE), bare=BARE)
    await install_elsewhere(cover, intent)
    await cover.install_namespace(intent, first)
    assert counted.loads == 2
    assert "10.2.0.9 . 5432" in pod.rules()


async def test_a_device_of_a_pods_that_is_called_as_the_loopback_is_in_no_form(
    pod: Host, peer: Host, first: Namespace, second: Namespace, counted: CountedNft, upgrader: Upgrader
) -> None:
    cover = Cover(counted)
    pod.command("ip", "link", "set", "lo", "name", "another")
    pod.command("ip", "link", "add", "lo", "type", "veth", "peer", "name", "other-end")
    await cover.install_namespace(intent_of(upgrader), first)
    await cover.install_namespace(intent_of(upgrader, "w2"), second)
    assert counted.loads == 1
    assert 'iif "lo" goto looped' in peer.rules()


async def test_a_form_counts_from_nothing(
    pod: Host, peer: Host, first: Namespace, counted: CountedNft, upgrader: Upgrader
) -> None:
    await Cover().install_namespace(intent_of(upgrader), first)
    pod.run("socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', (address, 9))", address=peer.ipv4)
    assert pod.ask(peer.ipv4, 80, b"?", before="asker.settimeout(0.2)") == "TimeoutError"
    something = r"packets [1-9]"
    # A named counter, and one of a rule.
    assert len(re.findall(something, pod.command("nft", "list table inet jfe"))) >= 2
    _, parts = await run_inside(first, READ)

    def put() -> str:
        tables.record(FAMILY, TABLE, "another")
        tables.add(FAMILY, Form.of(parts).changes, tables.generation())
        return counted.run()(["list", "table", FAMILY, TABLE])

    # Where there is no device over which the kernel itself would send something.
    with await fresh_namespace() as namespace:
        listed = await run_inside(namespace, put)
    assert listed.count("packets 0 bytes 0") > 10
    assert not re.search(something, listed)


def numbers_in(parts: list[Part], *numbers: int) -> tuple[bool, ...]:
    """Whether rules name cgroups of these numbers."""
    rules = b"".join(found for _, found in parts)
    return tuple(pack("=Q", number) in rules for number in numbers)


def leaving_out(kind: int) -> Tamper:
    """The last of a kind."""

    def tampered(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        last = max(number for number, change in enumerate(changes) if change.kind == kind)
        return (*changes[:last], *changes[last + 1 :])

    return tampered


def exchanging_rules(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    return (*changes[:-2], changes[-1], changes[-2])


def with_one_more(kind: int, body: bytes) -> Tamper:
    flags = NLM_F_CREATE | (NLM_F_APPEND if kind == NEWRULE else 0)
    return lambda changes: (*changes, Change(kind, flags, attribute(1, text(TABLE)) + body))


def replacing(old: bytes, new: bytes) -> Tamper:
    def tampered(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        made = tuple(change._replace(body=change.body.replace(old, new)) for change in changes)
        assert made != changes
        return made

    return tampered


REFUSED: dict[str, Tamper] = {
    "an-object-less": leaving_out(NEWOBJ),
    "a-set-less": leaving_out(NEWSET),
    "a-chain-less": leaving_out(NEWCHAIN),
    "the-first-is-nonsense": lambda changes: (changes[0]._replace(body=b"nonsense"), *changes[1:]),
    "all-is-nonsense": lambda changes: tuple(change._replace(body=b"nonsense") for change in changes),
}
"""What the kernel does not take."""

TAKEN: dict[str, Tamper] = {
    "a-rule-less": leaving_out(NEWRULE),
    "two-rules-exchanged": exchanging_rules,
    "a-rule-twice": lambda changes: (*changes, changes[-1]),
    "an-empty-rule-more": with_one_more(NEWRULE, attribute(2, text("outbound"))),
    "a-chain-more": with_one_more(NEWCHAIN, attribute(3, text("another"))),
    "another-port": replacing(pack("!H", 61002), pack("!H", 61003)),
    "another-mark": replacing(pack("=I", Mark().bit), pack("=I", 1)),
    "elements-less": leaving_out(NEWSETELEM),
}
"""What it takes, and what makes another table."""


class Tampered(Forms):
    """Each form is changed after it has been made."""

    def __init__(self, tamper: Tamper) -> None:
        super().__init__()
        self._tamper = tamper

    def find(self, key: str, make: Callable[[], Form]) -> Form | None:
        def tampered() -> Form:
            form = make()
            return replace(form, changes=self._tamper(form.changes))

        return super().find(key, tampered)


class Kept(Forms):
    """Gives the one form away that it has found."""

    def find(self, key: str, make: Callable[[], Form]) -> Form | None:
        self.found = super().find(key, make)
        return self.found


@pytest.mark.parametrize("tamper", [*TAKEN.values()], ids=[*TAKEN])
async def test_a_form_that_has_made_the_same_is_held_against_it_each_time(
    first: Namespace, second: Namespace, upgrader: Upgrader, tamper: Tamper
) -> None:
    counted, forms = CountedNft(), Kept()
    cover = Cover(counted, forms)
    for name in ("w1", "w2"):
        assert await install_elsewhere(cover, intent_of(upgrader, name)) == ()
    await cover.install_namespace(intent_of(upgrader, "w3"), first)
    assert counted.loads == 1
    assert forms.found is not None
    assert forms.found.made is not None
    forms.found.changes = tamper(forms.found.changes)
    assert await cover.install_namespace(intent_of(upgrader, "w4"), second) == ()
    assert counted.loads == 2
    assert await content_in(second) == await content_in(first)


@pytest.mark.parametrize("tamper", [*REFUSED.values(), *TAKEN.values()], ids=[*REFUSED, *TAKEN])
async def test_a_form_that_does_not_make_the_same_is_refused_and_nft_loads(
    pod: Host, peer: Host, first: Namespace, second: Namespace, upgrader: Upgrader, tamper: Tamper
) -> None:
    await Cover(forms=NoForms()).install_namespace(intent_of(upgrader), first)
    counted = CountedNft()
    cover = Cover(counted, Tampered(tamper))
    assert await cover.install_namespace(intent_of(upgrader), second) == ()
    # Once for the form, which no other namespace is tried with.
    assert counted.loads == 2
    assert peer.rules() == pod.rules()
    assert await content_in(second) == await content_in(first)
    assert await cover.check_namespace(intent_of(upgrader), second) == ()
    await install_elsewhere(cover, intent_of(upgrader, "w2"))
    assert counted.loads == 3


async def test_a_form_of_another_cgroup_is_refused_alike(
    pod: Host, first: Namespace, counted: CountedNft, upgrader: Upgrader
) -> None:
    number = upgrader.made.path.stat().st_ino
    cover = Cover(counted, Tampered(replacing(pack("=Q", number), pack("=Q", number + 1))))
    assert await cover.install_namespace(intent_of(upgrader), first) == ()
    assert counted.loads == 2
    assert numbers_in((await run_inside(first, READ))[1], number, number + 1) == (True, False)


@pytest.mark.parametrize("tamper", [*REFUSED.values()], ids=[*REFUSED])
async def test_what_the_kernel_refuses_is_not_done_by_half(
    pod: Host, first: Namespace, upgrader: Upgrader, tamper: Tamper
) -> None:
    await Cover().install_namespace(intent_of(upgrader), first)
    _, parts = await run_inside(first, READ)
    changes = tamper(Form.of(parts).changes)

    def put() -> str:
        tables.delete(FAMILY, TABLE)
        tables.record(FAMILY, TABLE, "another")
        before = pod.rules(), tables.generation()
        with pytest.raises(KernelError) as caught:
            tables.add(FAMILY, changes, tables.generation())
        assert (pod.rules(), tables.generation()) == before
        # The conversation goes on after all the reports of one that has failed.
        tables.delete(FAMILY, TABLE)
        return caught.value.message

    assert await run_inside(first, put)
    assert pod.rules() == ""


async def test_where_another_changes_the_tables_meanwhile_nft_loads_and_the_form_is_kept(
    pod: Host, peer: Host, first: Namespace, second: Namespace, counted: CountedNft, upgrader: Upgrader
) -> None:
    loader, intent = Loader(Forms()), intent_of(upgrader)

    def fill(meanwhile: str) -> None:
        before = tables.generation()
        tables.record(FAMILY, TABLE, record(intent.workload, FORMER))
        if meanwhile:
            pod.command("nft", meanwhile)
        loader.fill(namespace_ruleset(intent, FORMER), counted.run(), before + 1, intent.exemption)

    await run_inside(first, partial(fill, "add chain inet jfe anothers; add rule inet jfe anothers accept"))
    assert counted.loads == 2
    assert "anothers" not in pod.rules()
    await run_inside(second, partial(fill, ""))
    assert counted.loads == 2
    assert peer.rules() == pod.rules()


async def test_a_form_is_not_put_in_any_other_generation(first: Namespace, pod: Host, upgrader: Upgrader) -> None:
    await Cover().install_namespace(intent_of(upgrader), first)
    _, parts = await run_inside(first, READ)

    def put() -> None:
        tables.delete(FAMILY, TABLE)
        tables.record(FAMILY, TABLE, "another")
        with pytest.raises(KernelError):
            tables.add(FAMILY, Form.of(parts).changes, tables.generation() - 1)

    await run_inside(first, put)
    assert "chain" not in pod.rules()


async def test_a_cgroup_that_is_made_anew_is_another(
    pod: Host,
    peer: Host,
    first: Namespace,
    second: Namespace,
    counted: CountedNft,
    upgrader: Upgrader,
    tree: CgroupTree,
) -> None:
    cover, path = Cover(counted), upgrader.made.path
    await cover.install_namespace(intent_of(upgrader), first)
    former = path.stat().st_ino
    upgrader.made.path.rmdir()
    with pytest.raises(CgroupGone):
        await cover.install_namespace(intent_of(upgrader), second)
    assert peer.rules() == ""
    tree.create(str(path))
    assert path.stat().st_ino != former
    await cover.install_namespace(intent_of(upgrader), second)
    assert numbers_in((await run_inside(first, READ))[1], former, path.stat().st_ino) == (True, False)
    assert numbers_in((await run_inside(second, READ))[1], former, path.stat().st_ino) == (False, True)
    assert f'"{upgrader.exemption.path}"' in peer.rules()


@pytest.mark.parametrize("pause", [0, 0.001, 0.002, 0.004])
async def test_an_enrolment_that_is_given_up_leaves_nothing(
    pod: Host, first: Namespace, upgrader: Upgrader, pause: float
) -> None:
    cover, before = Cover(), pod.state()
    for _ in range(2):
        task = asyncio.create_task(cover.install_namespace(intent_of(upgrader), first))
        await asyncio.sleep(pause)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert pod.state() == before
        # It may have been done by then.
        await cover.remove_namespace(first, lab.MARK)
        assert pod.state() == before
        await install_elsewhere(cover, intent_of(upgrader, "w2"))


def test_forms_that_nobody_has_wanted_for_long_are_forgotten() -> None:
    kept, made = Forms(), []

    def find(key: str) -> None:
        def make() -> Form:
            made.append(key)
            return Form((), key)

        assert kept.find(key, make) == Form((), key)

    keys = [str(number) for number in range(forms.LIMIT)]
    for key in [*keys, keys[0], "one more", *keys]:
        find(key)
    # The first had been wanted once more, and so the second had to go, and from then on each next one in turn.
    assert made == [*keys, "one more", *keys[1:]]


def test_what_can_not_be_made_is_asked_for_again() -> None:
    def fail() -> Form:
        raise KernelError("no", "try again")

    kept = Forms()
    with pytest.raises(KernelError):
        kept.find("key", fail)
    assert kept.find("key", lambda: Form((), "")) == Form((), "")
