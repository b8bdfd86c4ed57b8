"""A real socket, on the loopback: what is sent comes, whole and from whom it is, and what does not come is counted."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from jfe_cni.errors import HostError
from jfe_cni.overflowd.collector.counts import Counts
from jfe_cni.overflowd.collector.udp import BUFFER, LARGEST, SO_RCVBUFFORCE, TOGETHER, UdpSocket
from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder
from tests.overflowd.exports import v5, v5_record
from tests.overflowd.without_ipv6 import WITHOUT_IPV6


@pytest.fixture
def collector() -> Iterator[UdpSocket]:
    with closing(UdpSocket(0)) as opened:
        yield opened


def send(collector: UdpSocket, payloads: list[bytes], host: str = "127.0.0.1") -> tuple[str, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for each in payloads:
            sender.sendto(each, (host, collector.port))
        found: tuple[str, int] = sender.getsockname()[:2]
        return found


def received(collector: UdpSocket) -> list[Datagram]:
    """On the loopback all is there when it has been sent."""
    found = []
    while together := collector.receive():
        found += together
    return found


def test_nothing_waits_where_nothing_was_sent(collector: UdpSocket) -> None:
    assert collector.receive() == []


def test_as_much_waits_as_was_asked_for(collector: UdpSocket) -> None:
    assert collector.room >= 2 * BUFFER


@pytest.mark.parametrize(("host", "exporter"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
def test_what_was_sent_comes_in_order_and_says_from_whom(collector: UdpSocket, host: str, exporter: str) -> None:
    payloads = [bytes([number & 255]) * (number % 1_400) for number in range(2 * TOGETHER + 7)]
    send(collector, payloads, host)
    first = collector.receive()
    assert len(first) == TOGETHER
    found = first + received(collector)
    assert [each.payload for each in found] == payloads
    assert {(str(each.exporter), each.port) for each in found} == {(exporter, collector.port)}
    assert (collector.dropped, collector.cut_off) == (0, 0)


def test_a_short_datagram_after_a_long_one_is_short(collector: UdpSocket) -> None:
    send(collector, [b"x" * 8_000])
    assert [len(each.payload) for each in received(collector)] == [8_000]
    send(collector, [b"y"])
    assert [each.payload for each in received(collector)] == [b"y"]


def test_what_is_too_long_is_counted(collector: UdpSocket) -> None:
    send(collector, [b"x" * (LARGEST + 1)])
    assert [len(each.payload) for each in received(collector)] == [LARGEST]
    assert collector.cut_off == 1


def test_what_the_kernel_drops_is_counted(collector: UdpSocket) -> None:
    with socket.socket(fileno=socket.dup(collector.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16_384)
    send(collector, [b"x" * 1_000] * 200)
    came = len(received(collector))
    assert came < 200
    # With the next that comes through.
    send(collector, [b"y"])
    assert len(received(collector)) == 1
    assert collector.dropped == 200 - came


def test_what_two_addresses_of_one_port_lose_is_counted_together() -> None:
    with closing(UdpSocket(0, "127.0.0.1")) as one, closing(UdpSocket(one.port, "127.0.0.2")) as other:
        for each in (one, other):
            with socket.socket(fileno=socket.dup(each.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16_384)
        came = 0
        for count, host, each in ((200, "127.0.0.1", one), (100, "127.0.0.2", other)):
            send(each, [b"x" * 1_000] * count, host)
            came += len(received(each))
            send(each, [b"x" * (LARGEST + 1)], host)
            assert len(received(each)) == 1
        registry = CollectorRegistry()
        registry.register(Counts([one, other]))
        port = {"port": str(one.port)}
        assert registry.get_sample_value("overflowd_kernel_dropped_total", port) == 300 - came > one.dropped
        assert registry.get_sample_value("overflowd_cut_off_total", port) == 2


def test_exports_are_decoded_as_they_come(collector: UdpSocket) -> None:
    send(collector, [v5(*[v5_record("198.51.100.1", "203.0.113.9")] * 30)] * 50)
    batches = Decoder().decode(received(collector))
    assert sum(len(each.flows) for each in batches) == 1_500


def test_a_port_that_is_taken_is_said_to_be(collector: UdpSocket) -> None:
    with pytest.raises(HostError, match=rf"UDP port {collector.port} can't be opened: .* see who has it \(ss -lunp\)"):
        UdpSocket(collector.port)


def test_an_address_of_another_host_is_nobodys_port() -> None:
    # RFC 5737: of no host.
    with pytest.raises(HostError, match=r"can't be opened: .*: name an address of this host"):
        UdpSocket(0, "192.0.2.7")


HEAR = """
from jfe_cni.errors import HostError
from jfe_cni.overflowd.collector.udp import UdpSocket

try:
    collector = UdpSocket(0, sys.argv[1])
except HostError as error:
    print(error.message)
else:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", collector.port))
    (found,) = collector.receive()
    print(found.exporter, found.payload.decode())
"""


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("::", "127.0.0.1 x"),
        ("127.0.0.1", "127.0.0.1 x"),
        ("::1", "UDP port 0 of ::1 can't be opened: Address family not supported by protocol"),
    ],
)
def test_without_ipv6_ipv4_is_heard(address: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_IPV6 + HEAR, address], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout.strip() == said


def test_at_one_ipv4_address_only_what_is_sent_there_is_heard() -> None:
    with closing(UdpSocket(0, "127.0.0.2")) as collector:
        send(collector, [b"x"], "127.0.0.1")
        send(collector, [b"y"], "127.0.0.2")
        assert [(str(each.exporter), each.payload) for each in received(collector)] == [("127.0.0.1", b"y")]
