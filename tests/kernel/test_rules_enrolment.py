"""Putting a namespace under cover and releasing it: connections that are open, what is left, what is noticed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from jfe_cni.errors import CgroupGone, HostError, NamespaceGone, RequestError
from jfe_cni.kernel import links, sockets, watch
from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules.model import Exemption, Mode
from jfe_cni.rules.namespace import FAMILY, TABLE
from tests.kernel import lab
from tests.kernel.lab import INVERTED, MARK, Capture, Host, Listeners, Upgrader, first_line, ready

ABSENT, ABSENT_TOO = Listeners(61001, 61002), Listeners(61003, 61004)
SECRET = b"never-to-be-seen-on-a-wire"

LONG_CALL = """
# Says what it hears to each line that it is given.
caller = open_socket(address); caller.connect((address, port)); told("ready")
for line in sys.stdin:
    try:
        caller.sendall(line.strip().encode()); told(repr(caller.recv(100)))
    except OSError as error:
        told(type(error).__name__)
"""


def say(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return first_line(process)


async def test_permissive_leaves_open_connections_as_they_are_and_takes_new_ones(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover
) -> None:
    for address in (peer.ipv4, peer.ipv6):
        peer.echo(address, 80)
    pod.echo(pod.ipv4, 90)
    calls = [ready(pod.python(LONG_CALL, address=address, port=80)) for address in (peer.ipv4, peer.ipv6)]
    calls.append(ready(peer.python(LONG_CALL, address=pod.ipv4, port=90)))
    assert all("first" in say(call, "first") for call in calls)

    started = upgrader.start(pod)
    with pod.open() as namespace:
        bare = await run_inside(namespace, sockets.connections)
        assert len(bare) == 3
        intent = upgrader.intent(started, Mode.PERMISSIVE, bare=tuple(bare))
        await cover.install_namespace(intent, namespace)

    assert all("still-bare" in say(call, "still-bare") for call in calls)
    new = pod.ask(peer.ipv4, 80, SECRET)
    assert isinstance(new, bytes)
    assert SECRET in new
    assert new.translate(INVERTED).startswith(pod.ipv4.encode())


async def test_the_tuple_of_a_bare_connection_is_no_hole_for_a_new_one(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover, wire: Capture
) -> None:
    peer.echo(peer.ipv4, 80, inverted=True)
    call = ready(
        pod.python(
            """
            def call():
                caller = open_socket(address); caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                caller.bind(("", 4444)); caller.connect((address, 80)); return caller
            first = call(); told("ready"); sys.stdin.readline()
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); first.close()
            try:
                call(); told("connected")
            except OSError as error:
                told(type(error).__name__)
            sys.stdin.readline()
            second = call(); second.sendall(secret); told(second.recv(100) == b"%s %s" % (here, secret))
            """,
            address=peer.ipv4,
            here=pod.ipv4.encode(),
            secret=SECRET,
        )
    )
    started = upgrader.start(pod)
    with pod.open() as namespace:
        bare = tuple(await run_inside(namespace, sockets.connections))
        assert len(bare) == 1
        await cover.install_namespace(upgrader.intent(started, Mode.PERMISSIVE, bare=bare), namespace)
        assert say(call, "go") == "ConnectionRefusedError"
        # The agent sees that it has ended, and takes it off the list.
        assert not await run_inside(namespace, sockets.connections)
        await cover.install_namespace(upgrader.intent(started, Mode.PERMISSIVE), namespace)
    assert say(call, "go") == "True"
    assert SECRET not in wire.payload()


async def test_strict_ends_open_connections_at_both_ends(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover, wire: Capture
) -> None:
    for address in (peer.ipv4, peer.ipv6):
        peer.echo(address, 80)
    pod.echo("::", 90)
    outward = [ready(pod.python(LONG_CALL, address=address, port=80)) for address in (peer.ipv4, peer.ipv6)]
    # IPv4 to a socket of IPv6, whose addresses sock_diag gives as mapped ones
    inward = [ready(peer.python(LONG_CALL, address=address, port=90)) for address in (pod.ipv4, pod.ipv6)]
    assert all("first" in say(call, "first") for call in [*outward, *inward])
    started = upgrader.start(pod)
    with pod.open() as namespace:
        before = await run_inside(namespace, sockets.connections)
        await cover.install_namespace(upgrader.intent(started), namespace)
        assert await run_inside(namespace, partial(sockets.destroy, before)) == 4
        assert not await run_inside(namespace, sockets.connections)
        # Once more, when they have ended: the listener, which the kernel would find in their stead, goes on.
        assert await run_inside(namespace, partial(sockets.destroy, before)) == 0
        assert len(await run_inside(namespace, sockets.listening)) == 5
    assert all(say(call, SECRET.decode()) in ("ConnectionAbortedError", "BrokenPipeError") for call in outward)
    assert all(say(call, "x").endswith("Error") for call in inward)
    assert SECRET not in wire.payload()


async def test_strict_lets_no_byte_of_an_open_connection_leave_even_before_it_is_ended(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover, wire: Capture
) -> None:
    peer.echo(peer.ipv4, 80)
    call = ready(pod.python(LONG_CALL, address=peer.ipv4, port=80))
    started = upgrader.start(pod)
    with pod.open() as namespace:
        await cover.install_namespace(upgrader.intent(started), namespace)
    assert say(call, SECRET.decode()) == "ConnectionResetError"
    assert SECRET not in wire.payload()


async def test_release_leaves_the_namespace_as_it_was(pod: Host, upgrader: Upgrader, cover: Cover) -> None:
    pod.command("sysctl", "-qw", "net.ipv4.fwmark_reflect=1")
    pod.command("nft", "add table inet anothers { chain a { type filter hook output priority 0; }; }")
    before = pod.state()
    started = upgrader.start(pod)
    with pod.open() as namespace:
        await cover.install_namespace(upgrader.intent(started), namespace)
        assert pod.state() != before
        await cover.install_namespace(upgrader.intent(started, Mode.PERMISSIVE), namespace)
        await cover.remove_namespace(namespace, MARK)
        assert pod.state() == before
        await cover.remove_namespace(namespace, MARK)
    assert pod.state() == before


async def test_another_agent_can_release_what_one_enrolled(pod: Host, upgrader: Upgrader, nft: Nft) -> None:
    pod.command("ip", "link", "set", "lo", "down")
    before = pod.state()
    with pod.open() as namespace:
        await Cover(nft).install_namespace(upgrader.intent(ABSENT), namespace)
        await Cover(nft).remove_namespace(namespace, MARK)
    assert pod.state() == before


async def test_an_enrolment_that_fails_leaves_nothing(pod: Host, upgrader: Upgrader, cover: Cover) -> None:
    before = pod.state()
    upgrader.exemption = Exemption(f"{upgrader.exemption.path}-that-is-not-there", upgrader.exemption.level)
    with pod.open() as namespace, pytest.raises(CgroupGone, match="does not exist"):
        await cover.install_namespace(upgrader.intent(ABSENT), namespace)
    assert pod.state() == before


async def test_a_change_that_fails_leaves_the_former_rules_whole(pod: Host, upgrader: Upgrader, cover: Cover) -> None:
    good = upgrader.intent(ABSENT)
    with pod.open() as namespace:
        await cover.install_namespace(good, namespace)
        installed = pod.state()
        upgrader.exemption = Exemption(f"{upgrader.exemption.path}-that-is-not-there", upgrader.exemption.level)
        with pytest.raises(CgroupGone):
            await cover.install_namespace(upgrader.intent(ABSENT_TOO), namespace)
        assert pod.state() == installed
        assert await cover.check_namespace(good, namespace) == ()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (["nft", "delete table inet jfe"], "is missing"),
        (["nft", "flush chain inet jfe outbound"], "has been changed"),
        (["nft", "insert rule inet jfe outbound accept"], "has been changed"),
        (["ip", "rule", "delete", "pref", "5"], "IPv4 policy rule"),
        (["ip", "-6", "route", "flush", "table", "29286"], "IPv6 routes"),
        (["sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=0"], "tcp_fwmark_accept"),
    ],
    ids=["table-deleted", "chain-flushed", "rule-inserted", "rule-deleted", "routes-flushed", "sysctl"],
)
async def test_damage_is_seen_and_mended(
    pod: Host, upgrader: Upgrader, cover: Cover, damage: list[str], words: str
) -> None:
    intent = upgrader.intent(ABSENT)
    with pod.open() as namespace:
        await cover.install_namespace(intent, namespace)
        assert await cover.check_namespace(intent, namespace) == ()
        pod.command(*damage)
        assert words in " ".join(await cover.check_namespace(intent, namespace))
        await cover.install_namespace(intent, namespace)
        assert await cover.check_namespace(intent, namespace) == ()


async def test_a_change_of_rules_or_routes_is_told(pod: Host) -> None:
    with pod.open() as namespace:
        for change in (
            ["nft", "add table inet x"],
            ["nft", "delete table inet x"],
            ["ip", "rule", "add", "pref", "7", "lookup", "main"],
            ["ip", "link", "add", "a0", "type", "veth", "peer", "name", "a1"],
        ):
            async with aclosing(watch.changes(namespace)) as told:
                await anext(told)  # what was before
                await asyncio.to_thread(pod.command, *change)
                await asyncio.wait_for(anext(told), lab.PATIENCE)


async def test_a_device_without_its_route_sends_nothing_and_gets_one_when_it_is_looked_at(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover, wire: Capture
) -> None:
    intent = upgrader.intent(upgrader.start(pod))
    with pod.open() as namespace:
        await cover.install_namespace(intent, namespace)
        routed = _local_routes(pod)
        for version in ("-4", "-6"):
            pod.command("ip", version, "route", "flush", "table", str(MARK.table), "dev", "eth0")
        assert _local_routes(pod) < routed
        before = "asker.setsockopt(socket.SOL_SOCKET, 25, b'eth0'); asker.settimeout(0.5)"
        assert isinstance(pod.ask(peer.ipv4, 80, SECRET, before=before), str)
        assert SECRET not in wire.payload()
        assert await cover.check_namespace(intent, namespace) == ()
        assert _local_routes(pod) == routed


def _local_routes(pod: Host) -> set[str]:
    shown = (pod.command("ip", version, "route", "show", "table", str(MARK.table)) for version in ("-4", "-6"))
    return {f"{number} {line.strip()}" for number, text in enumerate(shown) for line in text.splitlines()}


async def test_routes_that_are_missing_with_those_of_every_namespace_are_told_and_not_added(
    pod: Host, upgrader: Upgrader, cover: Cover
) -> None:
    intent = upgrader.intent(ABSENT)
    with pod.open() as namespace:
        await cover.install_namespace(intent, namespace)
        pod.command("ip", "route", "flush", "table", str(MARK.table))
        pod.command("ip", "-6", "route", "flush", "table", str(MARK.table), "dev", "eth0")
        left = _local_routes(pod)
        assert "IPv4 routes" in " ".join(await cover.check_namespace(intent, namespace))
        assert _local_routes(pod) == left


async def test_what_is_ours_is_listed_with_its_workload(pod: Host, upgrader: Upgrader, cover: Cover) -> None:
    with pod.open() as namespace:
        assert await cover.list_tagged(namespace) == ()
        await cover.install_namespace(upgrader.intent(ABSENT), namespace)
        tagged = await cover.list_tagged(namespace)
        kinds = {each.kind for each in tagged}
        assert kinds == {"table", "policy rule", "route"}
        assert [each.workloads for each in tagged if each.kind == "table"] == [("w1",)]
        await cover.remove_namespace(namespace, MARK)
        assert await cover.list_tagged(namespace) == ()


async def test_a_closed_link_lets_nothing_pass_until_it_is_opened(pod: Host, nft: Nft) -> None:
    """The far end must lie in our own namespace, so the whole test moves into the peer's on a thread of its own."""
    program = """
import asyncio, sys
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.kernel.cgroups import CgroupTree
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.kernel.nft import Nft
async def main():
    ground = KernelGround(Nft(), CgroupTree.found(), "unused")
    with Namespace.open_path(sys.argv[1]) as namespace:
        print(await ground.close_link(namespace), flush=True)
        sys.stdin.readline()
        await ground.open_link(namespace)
        print("open", flush=True)
asyncio.run(main())
"""
    with lab.hosts() as (inner, outer):
        outer.echo(outer.ipv4, 80)
        assert inner.ask(outer.ipv4, 80, b"?") == inner.ipv4.encode() + b" ?"
        closer = outer.start(sys.executable, "-u", "-c", program, str(inner.path))
        assert first_line(closer) == "True"
        assert "TimeoutError" in str(inner.ask(outer.ipv4, 80, b"?", before="asker.settimeout(0.5)"))
        assert say(closer, "") == "open"
        assert inner.ask(outer.ipv4, 80, b"?") == inner.ipv4.encode() + b" ?"
        assert outer.rules() == ""


async def test_no_link_of_ours_is_found_where_the_other_end_is_elsewhere(pod: Host) -> None:
    with pod.open() as namespace:
        assert await links.links(namespace) == ()
        assert await links.addresses(namespace) == {ip_address(pod.ipv4), ip_address(pod.ipv6)}


async def test_a_namespace_that_is_none_is_told_apart(tmp_path: Path, pod: Host) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(RequestError, match="is a file, not a namespace"):
        Namespace.open_path(empty)
    with pytest.raises(RequestError, match="of another kind"):
        Namespace.open_path("/proc/self/ns/uts")
    with pytest.raises(NamespaceGone):
        Namespace.open_path(tmp_path / "missing")
    with pytest.raises(NamespaceGone, match="no process"):
        Namespace.open_pid(2**22 - 1)
    with pod.open() as first, pod.open() as second, Namespace.own() as own:
        assert first.identity == second.identity != own.identity


async def test_a_namespace_that_was_unmounted_lives_on_as_long_as_it_is_held(
    pod: Host, upgrader: Upgrader, cover: Cover
) -> None:
    with pod.open() as namespace:
        lab.end(pod)
        await asyncio.to_thread(subprocess.run, ["ip", "netns", "delete", pod.name], check=True)
        await cover.install_namespace(upgrader.intent(ABSENT), namespace)
        await cover.remove_namespace(namespace, MARK)


async def test_the_event_loops_own_thread_never_leaves_its_namespace(pod: Host) -> None:
    before = Path("/proc/self/ns/net").readlink()
    with pod.open() as namespace:
        inside = await run_inside(namespace, lambda: Path("/proc/thread-self/ns/net").readlink())
        with pytest.raises(ZeroDivisionError):
            await run_inside(namespace, lambda: 1 // 0)
    assert inside != before
    assert Path("/proc/thread-self/ns/net").readlink() == before


async def test_two_tables_of_other_programs_are_not_ours(pod: Host, nft: Nft) -> None:
    pod.command("nft", "add table inet jfeother; add table ip filter")
    with pod.open() as namespace:
        assert await nft.tables(namespace) == ()
        assert await nft.listing(FAMILY, TABLE, namespace) is None


async def test_a_missing_nft_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from jfe_cni.kernel.nft import NFT_PACKAGE, locate

    with pytest.raises(HostError, match="nftables"):
        locate("no-such-program", NFT_PACKAGE)
