"""Packets as they are on a wire, through tags, labels, options and extensions."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.captures.links import packet_of
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import Packet, from_ethernet, from_ip
from tests.overflowd.frames import IPV6, ethernet, ipv4, ipv6, tagged, tcp, udp

INNER = ipv4("198.51.100.1", "203.0.113.9", 17, udp(53, 5353, b"payload"))
WIDE = ipv6("2001:db8::1", "2001:db8::2", 17, udp(53, 5353, b"payload"))
LABELS = struct.pack(">II", 1 << 12, 2 << 12 | 1 << 8)
PPPOE = struct.pack(">BBHHH", 0x11, 0, 1, len(INNER) + 2, 0x0021)


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(INNER),
        ethernet(tagged(INNER), 0x8100),
        ethernet(tagged(tagged(INNER), 0x8100), 0x88A8),
        ethernet(LABELS + INNER, 0x8847),
        ethernet(tagged(LABELS + INNER, 0x8847), 0x8100),
        ethernet(PPPOE + INNER, 0x8864),
        ethernet(WIDE, IPV6),
        ethernet(ipv4("198.51.100.1", "203.0.113.9", 17, udp(53, 5353, b"payload"), options=bytes(8))),
        ethernet(INNER + b"\0" * 6),
    ],
    ids=["plain", "vlan", "two-vlans", "mpls", "vlan-mpls", "pppoe", "ipv6", "options", "padded"],
)
def test_the_datagram_is_found(frame: bytes) -> None:
    packet = from_ethernet(frame)
    assert isinstance(packet, Packet)
    assert (packet.protocol, packet.ports, packet.payload) == (17, (53, 5353), b"payload")
    assert str(ip_address(packet.source)) in {"198.51.100.1", "2001:db8::1"}


def test_extension_headers_are_passed_over() -> None:
    # Hop by hop, authentication (in units of four), destination options, then TCP.
    extensions = bytes([51, 0]) + bytes(6) + bytes([60, 4]) + bytes(22) + bytes([6, 1]) + bytes(14)
    packet = from_ip(ipv6("2001:db8::1", "2001:db8::2", 0, extensions + tcp(1, 2, 0x12, b"x")))
    assert isinstance(packet, Packet)
    assert (packet.protocol, packet.ports, packet.tcp_flags, packet.payload) == (6, (1, 2), 0x12, b"x")


@pytest.mark.parametrize(
    "packet",
    [
        ipv4("198.51.100.1", "203.0.113.9", 17, udp(53, 5353), offset=100),
        ipv6("2001:db8::1", "2001:db8::2", 44, struct.pack(">BBHI", 17, 0, 100 << 3, 1) + udp(53, 5353)),
        # What follows looks like an extension header, and TCP behind it: its sender has made it look so.
        ipv6("2001:db8::1", "2001:db8::2", 44, struct.pack(">BBHI", 60, 0, 100 << 3, 1) + bytes([6]) + bytes(40)),
    ],
)
def test_a_fragment_that_is_not_the_first_has_no_ports(packet: bytes) -> None:
    found = from_ip(packet)
    assert isinstance(found, Packet)
    assert found.fragment
    assert found.protocol in (17, 60)
    assert found.ports == (0, 0)


def test_icmp_has_type_and_code_where_netflow_has_them() -> None:
    found = from_ip(ipv4("198.51.100.1", "203.0.113.9", 1, b"\x08\x01" + bytes(6)))
    assert isinstance(found, Packet)
    assert found.ports == (0, 0x0801)


@pytest.mark.parametrize("frame", [b"", ethernet(b""), ethernet(INNER[:10]), ethernet(WIDE[:39], IPV6)])
def test_what_is_cut_off_is_said_to_be(frame: bytes) -> None:
    assert from_ethernet(frame) is Dropped.CUT_OFF


def test_what_is_no_ip_is_said_to_be() -> None:
    assert from_ethernet(ethernet(bytes(28), 0x0806)) is Dropped.UNKNOWN_HEADER
    assert from_ethernet(ethernet(tagged(b"", 0x8100) * 40, 0x8100)) is Dropped.UNKNOWN_HEADER


@given(st.sampled_from([0, 1, 101, 113, 228, 276, 999]), st.binary(max_size=200))
def test_garbage_is_a_packet_or_has_a_reason(link: int, frame: bytes) -> None:
    assert isinstance(packet_of(link, frame), Packet | Dropped)


@given(st.data(), st.sampled_from([ethernet(INNER), ethernet(WIDE, IPV6), ethernet(LABELS + INNER, 0x8847)]))
def test_a_packet_with_any_bytes_changed_is_a_packet_or_has_a_reason(data: st.DataObject, frame: bytes) -> None:
    changed = bytearray(frame)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(frame) - 1), st.integers(0, 255)), max_size=8)):
        changed[at] = value
    cut = data.draw(st.integers(0, len(frame)))
    assert isinstance(from_ethernet(bytes(changed[:cut])), Packet | Dropped)
