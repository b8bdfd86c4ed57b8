"""conntrack of a fresh namespace: what it counted, while an entry lives and when it ends; and its flows."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar

import pytest

from jfe_cni.agent.flows.conntrack import Conntrack, Use
from jfe_cni.agent.flows.flow import EndReason, Ends, Flow
from jfe_cni.agent.flows.tracked import Tracked
from jfe_cni.agent.flows.unsent import Absent, Unsent, Unsents
from jfe_cni.kernel import conntrack
from jfe_cni.kernel.conntrack import Endings, Entry
from tests.kernel import lab
from tests.kernel.lab import Host
from tests.stage.namespace import ExistingNamespace

T = TypeVar("T")

PORT = 9999
# 100 bytes below 8 of UDP and 20 of IPv4.
OCTETS = 128
FLOOD = 20_000
LOG = logging.getLogger("test")

# What makes the kernel track in a namespace, as kube-proxy's or docker's rules do.
TRACKING = (
    "add table inet t; add chain inet t c { type filter hook prerouting priority 0; }; add rule inet t c ct state new"
)

UDP_FLOOD = """
sender = socket.socket(family(address), socket.SOCK_DGRAM); sender.bind(("", source)); sender.connect((address, port))
for number in range(packets):
    sender.send(b"x" * 100)
    if number % 64 == 0:
        time.sleep(0.001)
told("sent")
"""
UDP_SINK = """
sink = socket.socket(family(address), socket.SOCK_DGRAM); sink.bind((address, port)); told("ready")
while True:
    sink.recv(1000)
"""
UDP_FROM_MANY_PORTS = """
for number in range(ports):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x" * 100, (address, port))
told("sent")
"""
PING = """
echo = struct.pack("!BBHHH", 8, 0, 0xf7fd, 1, 1)
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); icmp.settimeout(PATIENCE)
icmp.sendto(echo, (address, 0)); icmp.recv(1000); told("heard")
"""
TCP_SERVE = """
listener = socket.create_server((address, port)); told("ready")
connection, _ = listener.accept()
while connection.recv(65536): pass
connection.close()
"""
TCP_SEND = """
sender = open_socket(address); sender.bind(("", source)); sender.connect((address, port)); sender.sendall(bytes(size))
sender.shutdown(socket.SHUT_WR); sender.recv(1); told("sent")
"""


def inside(host: Host, work: Callable[[], T]) -> T:
    return ExistingNamespace(host.name, host.path).inside(work)


@pytest.fixture(autouse=True)
def acquainted(pod: Host, peer: Host) -> None:
    """Each knows the other's hardware address: what was sent has arrived when the program that sent it has ended."""
    for here, there in ((pod, peer), (peer, pod)):
        (device,) = json.loads(there.command("ip", "-j", "link", "show", there.device))
        for address in (there.ipv4, there.ipv6):
            here.command("ip", "neighbor", "replace", address, "lladdr", device["address"], "dev", here.device)


@pytest.fixture
def tracking(peer: Host) -> Host:
    """The peer tracks and counts what it meets."""
    inside(peer, lambda: conntrack.account(on=True))
    peer.command("nft", TRACKING)
    return peer


@contextlib.contextmanager
def endings(host: Host) -> Iterator[Endings]:
    made = inside(host, Endings)
    try:
        yield made
    finally:
        made.close()


def flood(pod: Host, peer: Host, packets: int = FLOOD, source: int = 40_000) -> None:
    lab.ready(peer.python(UDP_SINK, address=peer.ipv4, port=PORT))
    assert pod.run(UDP_FLOOD, address=peer.ipv4, port=PORT, source=source, packets=packets) == "sent"


def dumped(host: Host, most: int = 1000) -> list[Entry]:
    return inside(host, lambda: list(conntrack.Dump(most)))


def ends(pod: Host, peer: Host, source: int = 40_000) -> Ends:
    return Ends(ip_address(pod.ipv4), source, ip_address(peer.ipv4), PORT)


def test_a_namespace_that_nobody_made_track_has_no_entry(pod: Host, peer: Host) -> None:
    flood(pod, peer, 10)
    assert dumped(peer) == []


def test_every_packet_of_a_flood_is_counted(pod: Host, tracking: Host) -> None:
    flood(pod, tracking)
    (entry,) = dumped(tracking)
    assert entry.protocol == socket.IPPROTO_UDP
    assert (entry.sent, entry.returned) == ((FLOOD, FLOOD * OCTETS), (0, 0))
    original = entry.original()
    assert (str(original.source), original.source_port) == (pod.ipv4, 40_000)
    assert (str(original.destination), original.destination_port) == (tracking.ipv4, PORT)


def test_without_accounting_an_entry_has_no_count(pod: Host, tracking: Host) -> None:
    inside(tracking, lambda: conntrack.account(on=False))
    assert inside(tracking, conntrack.accounts) is False
    flood(pod, tracking, 10)
    (entry,) = dumped(tracking)
    assert (entry.sent, entry.returned) == (None, None)


def test_icmp_has_its_type_and_code_where_others_have_ports(pod: Host, tracking: Host) -> None:
    assert pod.run(PING, address=tracking.ipv4) == "heard"
    (entry,) = dumped(tracking)
    assert entry.protocol == socket.IPPROTO_ICMP
    assert (entry.original().destination_port, entry.reply().destination_port) == (8 << 8, 0)
    assert (entry.sent, entry.returned) == ((1, 28), (1, 28))


def test_ipv6_is_tracked_alike(pod: Host, tracking: Host) -> None:
    lab.ready(tracking.python(UDP_SINK, address=tracking.ipv6, port=PORT))
    assert pod.run(UDP_FLOOD, address=tracking.ipv6, port=PORT, source=40_000, packets=7) == "sent"
    (entry,) = [each for each in dumped(tracking) if each.protocol == socket.IPPROTO_UDP]
    assert (str(entry.original().source), entry.sent) == (pod.ipv6, (7, 7 * 148))


def test_a_dump_ends_where_it_was_told_to_and_says_so(pod: Host, tracking: Host) -> None:
    for source in range(40_000, 40_005):
        assert pod.run(UDP_FLOOD, address=tracking.ipv4, port=PORT, source=source, packets=1) == "sent"
    for most, found, whole in ((1000, 5, True), (5, 5, True), (4, 4, False)):
        dump = conntrack.Dump(most)
        assert (len(inside(tracking, lambda d=dump: list(d))), dump.whole) == (found, whole)  # type: ignore[misc]


def test_what_an_entry_had_counted_is_told_when_it_ends(pod: Host, tracking: Host) -> None:
    with endings(tracking) as ended:
        flood(pod, tracking)
        assert list(ended.take()) == []
        (lived,) = dumped(tracking)
        forget_udp(tracking)
        found: list[Entry] = []
        flood_again = pod.run(UDP_FLOOD, address=tracking.ipv4, port=PORT, source=40_000, packets=1)
        assert flood_again == "sent"

        def told() -> bool:
            touch(tracking)
            found.extend(ended.take())
            return bool(found)

        lab.until(told, "the end of the entry is told")
    (entry,) = found
    assert (entry.key, entry.sent) == (lived.key, (FLOOD + 1, (FLOOD + 1) * OCTETS))


def forget_udp(host: Host) -> None:
    """What the next packet of UDP renews or makes ends at once."""
    host.command("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=0")


@pytest.fixture
def unsent() -> Unsents:
    return Counter()


class Reading:
    """The agent's source in a namespace; each look is at the next second."""

    def __init__(self, host: Host, unsent: Unsents, use: Use = "read") -> None:
        self.covered: set[Ends] = set()
        self._host = host
        self._at = 0
        self.source = Conntrack(Tracked(self.covered.__contains__, unsent), unsent, use, LOG)

    def look(self) -> list[Flow]:
        self._at += 1000
        return inside(self._host, lambda: self.source.look(self._at))

    def ended(self) -> list[Flow]:
        return inside(self._host, lambda: self.source.ended(self._at))


@contextlib.contextmanager
def reading(host: Host, unsent: Unsents, use: Use = "read") -> Iterator[Reading]:
    made = Reading(host, unsent, use)
    try:
        yield made
    finally:
        inside(host, made.source.close)


def test_a_flood_is_told_in_slices_whose_sum_is_every_packet(pod: Host, tracking: Host, unsent: Unsents) -> None:
    with reading(tracking, unsent) as source:
        assert source.look() == []
        flood(pod, tracking, 12_000)
        (first,) = source.look()
        assert source.look() == []
        assert pod.run(UDP_FLOOD, address=tracking.ipv4, port=PORT, source=40_000, packets=8_000) == "sent"
        (second,) = source.look()
        assert source.source.absent is None
    assert first == Flow(ends(pod, tracking), 17, 12_000, 12_000 * OCTETS, 1000, 2000, EndReason.ACTIVE)
    assert second == Flow(ends(pod, tracking), 17, 8_000, 8_000 * OCTETS, 3000, 4000, EndReason.ACTIVE)
    assert not unsent.total()


def test_what_was_there_before_the_first_look_is_not_told(pod: Host, tracking: Host, unsent: Unsents) -> None:
    flood(pod, tracking, 50)
    with reading(tracking, unsent) as source:
        assert source.look() == []
        assert pod.run(UDP_FLOOD, address=tracking.ipv4, port=PORT, source=40_000, packets=3) == "sent"
        assert [flow.packets for flow in source.look()] == [3]


def test_a_flood_from_many_ports_that_ends_between_two_looks_is_told_whole(
    pod: Host, tracking: Host, unsent: Unsents
) -> None:
    with reading(tracking, unsent) as source:
        source.look()
        lab.ready(tracking.python(UDP_SINK, address=tracking.ipv4, port=PORT))
        forget_udp(tracking)
        for source_port in range(40_000, 40_010):
            assert pod.run(UDP_FLOOD, address=tracking.ipv4, port=PORT, source=source_port, packets=3) == "sent"
        told: list[Flow] = []

        def all_told() -> bool:
            touch(tracking)
            told.extend(source.ended())
            return sum(flow.packets for flow in told) >= 30

        lab.until(all_told, "the ends are told")
        assert source.look() == []
    assert sum(flow.packets for flow in told) == 30
    assert {flow.ends.source_port for flow in told} == set(range(40_000, 40_010))
    assert {flow.end for flow in told} == {EndReason.IDLE}


def test_more_ends_than_the_socket_holds_are_noticed_and_what_it_held_is_told(
    pod: Host, tracking: Host, unsent: Unsents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "EVENTS_BUFFER", 16_384)
    with reading(tracking, unsent) as source:
        source.look()
        lab.ready(tracking.python(UDP_SINK, address=tracking.ipv4, port=PORT))
        forget_udp(tracking)
        assert pod.run(UDP_FROM_MANY_PORTS, address=tracking.ipv4, port=PORT, ports=300) == "sent"
        touch(tracking)
        told = source.ended()
        assert unsent[Unsent.OVERRUN] == 1
        assert 0 < len(told) < 300
        # It goes on.
        assert pod.run(UDP_FROM_MANY_PORTS, address=tracking.ipv4, port=PORT, ports=3) == "sent"
        touch(tracking)
        lab.until(lambda: bool(source.ended()), "what ends later is told")


def touch(host: Host) -> None:
    """Entries that are over end when somebody meets them."""
    dumped(host)


def test_tcp_is_told_of_unless_the_upgrader_tells_of_it(pod: Host, tracking: Host, unsent: Unsents) -> None:
    for source_port, covered in ((40_000, False), (40_001, True)):
        with reading(tracking, unsent) as source:
            source.look()
            if covered:
                source.covered.add(ends(pod, tracking, source_port))
            lab.ready(tracking.python(TCP_SERVE, address=tracking.ipv4, port=PORT))
            sent = pod.run(TCP_SEND, address=tracking.ipv4, port=PORT, source=source_port, size=1_000_000)
            assert sent == "sent"
            flows = source.look()
        assert len(flows) == (0 if covered else 2)
        for flow in flows:
            forward = flow.ends == ends(pod, tracking, source_port)
            assert forward or flow.ends == ends(pod, tracking, source_port).reversed()
            assert (flow.octets > 1_000_000) is forward


def test_behind_nat_the_ends_are_those_that_sent(pod: Host, peer: Host, unsent: Unsents) -> None:
    inside(peer, lambda: conntrack.account(on=True))
    peer.command("nft", "add table ip n; add chain ip n c { type nat hook prerouting priority -100; }")
    peer.command("nft", f"add rule ip n c udp dport 53 dnat to {peer.ipv4}:{PORT}")
    with reading(peer, unsent) as source:
        source.look()
        lab.ready(peer.python(UDP_SINK, address=peer.ipv4, port=PORT))
        # TEST-NET-2, RFC 5737: nobody's but by NAT.
        pod.command("ip", "route", "add", "198.51.100.1", "via", peer.ipv4)
        assert pod.run(UDP_FLOOD, address="198.51.100.1", port=53, source=40_000, packets=5) == "sent"
        (flow,) = source.look()
    assert (flow.ends, flow.packets) == (ends(pod, peer), 5)


@pytest.mark.parametrize(("use", "absent"), [("off", Absent.SWITCHED_OFF), ("read", Absent.NOT_ACCOUNTED)])
def test_why_nothing_is_told_is_told(pod: Host, peer: Host, unsent: Unsents, use: Use, absent: Absent) -> None:
    peer.command("nft", TRACKING)
    with reading(peer, unsent, use) as source:
        source.look()
        flood(pod, peer, 10)
        assert source.look() == []
        assert source.source.absent is absent
    assert inside(peer, conntrack.accounts) is False


def test_accounting_is_switched_on_where_that_is_wanted_and_is_as_it_was_afterwards(
    pod: Host, peer: Host, unsent: Unsents
) -> None:
    peer.command("nft", TRACKING)
    with reading(peer, unsent, "account") as source:
        source.look()
        flood(pod, peer, 10)
        assert [flow.packets for flow in source.look()] == [10]
    assert inside(peer, conntrack.accounts) is False


def test_accounting_that_somebody_else_switched_on_stays(tracking: Host, unsent: Unsents) -> None:
    with reading(tracking, unsent, "account") as source:
        source.look()
    assert inside(tracking, conntrack.accounts) is True


def test_accounting_that_comes_later_is_noticed(pod: Host, peer: Host, unsent: Unsents) -> None:
    peer.command("nft", TRACKING)
    with reading(peer, unsent) as source:
        source.look()
        assert source.source.absent is Absent.NOT_ACCOUNTED
        inside(peer, lambda: conntrack.account(on=True))
        source.look()
        flood(pod, peer, 10)
        assert [flow.packets for flow in source.look()] == [10]
        assert source.source.absent is None


def test_where_ends_are_not_told_of_that_is_said_and_what_lives_is_told(
    pod: Host, tracking: Host, unsent: Unsents
) -> None:
    tracking.command("sysctl", "-qw", "net.netfilter.nf_conntrack_events=0")
    with reading(tracking, unsent) as source:
        source.look()
        assert source.source.absent is Absent.NO_EVENTS
        flood(pod, tracking, 10)
        assert [flow.packets for flow in source.look()] == [10]
    assert not unsent[Unsent.OVERRUN]
