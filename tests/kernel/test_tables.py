"""What the kernel says of a table: a change of any kind has another digest, and what changes by itself has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest

from jfe_cni.errors import KernelError
from jfe_cni.kernel import tables
from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.tables import TableState
from jfe_cni.rules.model import Mode
from tests.kernel.lab import MARK, Host, Listeners, Upgrader
from tests.unit.rules_examples import BARE

STATE = partial(tables.state, "inet", "jfe")
LISTENERS = Listeners(61001, 61002)


@pytest.fixture
def inside(pod: Host) -> Iterator[Namespace]:
    with pod.open() as namespace:
        yield namespace


@pytest.fixture
async def loaded(inside: Namespace, cover: Cover, upgrader: Upgrader) -> TableState:
    """The rules of a permissive workload with bare connections, which have all that ours can have."""
    await cover.install_namespace(upgrader.intent(LISTENERS, Mode.PERMISSIVE, bare=BARE), inside)
    return await now(inside)


async def now(inside: Namespace) -> TableState:
    state = await run_inside(inside, STATE)
    assert state is not None
    return state


@pytest.mark.parametrize(
    "change",
    [
        "add rule inet jfe outbound accept",
        "insert rule inet jfe outbound accept",
        "add rule inet jfe take counter accept",
        "flush chain inet jfe looped",
        "add chain inet jfe outbound { policy drop; }",
        "add chain inet jfe anothers",
        "add chain inet jfe anothers { type filter hook output priority -400; }",
        "add element inet jfe bare4 { 10.1.0.5 . 1 . 10.2.0.9 . 2 }",
        "flush set inet jfe bare6",
        "add set inet jfe anothers { type ipv4_addr; }",
        "add counter inet jfe anothers",
        "add quota inet jfe anothers { over 1 mbytes; }",
        'table inet jfe { comment "another"; }; delete table inet jfe; table inet jfe { comment "another"; }',
        "table inet jfe { flags dormant; }",
    ],
)
async def test_a_change_of_the_table_is_seen(pod: Host, inside: Namespace, loaded: TableState, change: str) -> None:
    pod.command("nft", change)
    assert (await now(inside)).digest != loaded.digest


async def test_a_rule_that_is_put_again_where_it_was_is_a_change(
    pod: Host, inside: Namespace, loaded: TableState
) -> None:
    before = pod.rules()
    listed = pod.command("nft", "-s", "-a", "list", "chain", "inet", "jfe", "knocking")
    rule, _, handle = next(line for line in listed.splitlines() if "!= local" in line).partition(" # handle ")
    pod.command("nft", f"insert rule inet jfe knocking {rule}; delete rule inet jfe knocking handle {handle}")
    assert pod.rules() == before
    assert (await now(inside)).digest != loaded.digest


async def test_the_same_table_loaded_again_is_another(
    inside: Namespace, loaded: TableState, cover: Cover, upgrader: Upgrader
) -> None:
    await cover.install_namespace(upgrader.intent(LISTENERS, Mode.PERMISSIVE, bare=BARE), inside)
    assert (await now(inside)).digest != loaded.digest


@pytest.mark.parametrize(
    "change",
    [
        "add table inet jfe_another { chain outbound { accept; }; }",
        "add table ip jfe { chain outbound { accept; }; }",
        "add table inet another { chain outbound { type filter hook output priority 0; }; set bare4 { type mark; }; }",
    ],
)
async def test_tables_of_others_are_no_change(pod: Host, inside: Namespace, loaded: TableState, change: str) -> None:
    pod.command("nft", change)
    after = await now(inside)
    assert after.digest == loaded.digest
    # So that it was looked at at all.
    assert after.generation != loaded.generation


async def test_what_is_counted_is_no_change(pod: Host, peer: Host, inside: Namespace, loaded: TableState) -> None:
    dropped = "asker.settimeout(0.2)"
    assert pod.ask(peer.ipv4, 80, b"?", before=dropped) == "TimeoutError"
    assert peer.ask(pod.ipv4, 61001, b"?", before=dropped) in ("TimeoutError", "ConnectionRefusedError")
    pod.run("socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', (address, 9))", address=peer.ipv4)
    counted = pod.command("nft", "list table inet jfe")
    # A counter of a rule, and one that has a name.
    assert re.search(r"counter packets [1-9]\d* bytes \d+ (drop|reject)", counted)
    assert re.search(r"counter sent-udp {\s+packets 1 ", counted)
    assert (await run_inside(inside, STATE)) == loaded


async def test_elements_in_another_order_are_the_same_set(pod: Host, inside: Namespace) -> None:
    """The kernel puts a hash table that has grown in another order, some time later."""
    pod.command("nft", "add table inet jfe; add set inet jfe s { type ipv4_addr . inet_service; }")
    elements = [f"10.0.{i >> 8}.{i & 255} . {i + 1}" for i in range(3000)]
    pod.command("nft", f"add element inet jfe s {{ {', '.join(elements[:1500])} }}")
    pod.command("nft", f"add element inet jfe s {{ {', '.join(elements[1500:])} }}")
    first = await now(inside)
    assert all([(await now(inside)) == first for _ in range(20)])
    pod.command("nft", f"delete element inet jfe s {{ {elements[1499]} }}")
    assert (await now(inside)).digest != first.digest


async def test_a_table_beyond_all_measure_is_not_read_to_its_end(
    pod: Host, inside: Namespace, loaded: TableState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LIMIT", 1000)
    assert (await now(inside)).digest == tables.CHANGED


async def test_a_known_state_is_given_back_as_long_as_there_was_no_transaction(
    pod: Host, inside: Namespace, loaded: TableState
) -> None:
    assert await run_inside(inside, partial(STATE, loaded)) is loaded
    pod.command("nft", "add rule inet jfe outbound accept")
    assert (await run_inside(inside, partial(STATE, loaded))) != loaded


async def test_a_comment_is_read_and_a_record_is_written_once(pod: Host, inside: Namespace) -> None:
    words = "jfe workload w1 former 0 0 - 1"

    def record() -> None:
        tables.record("inet", "jfe", words)

    assert await run_inside(inside, partial(tables.comment, "inet", "jfe")) is None
    await run_inside(inside, record)
    assert await run_inside(inside, partial(tables.comment, "inet", "jfe")) == words
    assert f'comment "{words}"' in pod.rules()
    with pytest.raises(KernelError, match="File exists"):
        await run_inside(inside, record)
    assert await run_inside(inside, partial(tables.names, "inet")) == {"jfe"}
    for _ in range(2):
        await run_inside(inside, partial(tables.delete, "inet", "jfe"))
    assert pod.rules() == ""


async def test_another_agent_proves_the_rules_without_loading_them(
    pod: Host, inside: Namespace, cover: Cover, upgrader: Upgrader
) -> None:
    intent = upgrader.intent(LISTENERS)
    await cover.install_namespace(intent, inside)
    proof = cover.proof(inside)
    assert proof is not None
    second, third = Cover(), Cover()
    assert await second.check_namespace(intent, inside) != ()
    second.believe(inside, proof)
    assert await second.check_namespace(intent, inside) == ()
    assert second.proof(inside) == proof
    assert await second.check_namespace(upgrader.intent(Listeners(61003, 61004)), inside) != ()
    pod.command("nft", "add rule inet jfe outbound accept")
    third.believe(inside, proof)
    assert "has been changed" in " ".join(await third.check_namespace(intent, inside))
    await cover.remove_namespace(inside, MARK)
