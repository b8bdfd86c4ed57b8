"""Packets as they are on a wire, from the outside to the transport's ports: of captures, and of what sFlow samples.
Pure. Every length that a packet says of itself is looked at before it is believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from jfe_cni.overflowd.dropped import Dropped

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
_IP = frozenset({ETHERTYPE_IPV4, ETHERTYPE_IPV6})
# 802.1Q, 802.1ad, and what switches used before it: four bytes each (IEEE 802 Numbers).
_TAGS = frozenset({0x8100, 0x88A8, 0x9100})
ETHERTYPE_MPLS = 0x8847
_MPLS = frozenset({ETHERTYPE_MPLS, 0x8848})
# RFC 2516, section 4: six bytes, then PPP's protocol.
_PPPOE = 0x8864
# IANA "PPP Numbers".
_PPP_TO_ETHERTYPE = {0x0021: ETHERTYPE_IPV4, 0x0057: ETHERTYPE_IPV6, 0x0281: ETHERTYPE_MPLS, 0x0283: 0x8848}
# As many tags and labels as any network stacks.
_MOST_TAGS = 16

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
# Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 8200, section 4; IANA "IPv6 Extension Header
# Types"): two bytes, the second the length in units of eight, less one.
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
_FRAGMENT, _AUTHENTICATION = 44, 51
_MOST_EXTENSIONS = 16


@dataclass(frozen=True, slots=True)
class Packet:
    """The outermost IP. `source`, `destination`: 4 or 16 bytes. `ports`: (0, 0) where the transport has none, or they
    are cut off; ICMP's type and code as the second of them, as NetFlow has it. `payload`: what follows the transport's
    header, or the IP's where that is of no known protocol. `fragment`: it is one, not the first."""

    source: bytes
    destination: bytes
    protocol: int
    ports: tuple[int, int]
    tcp_flags: int
    traffic_class: int
    fragment: bool
    payload: bytes


def from_ethernet(frame: bytes) -> Packet | Dropped:
    if len(frame) < 14:
        return Dropped.CUT_OFF
    (kind,) = struct.unpack_from(">H", frame, 12)
    return from_ethertype(kind, frame, 14)


def from_ethertype(kind: int, data: bytes, at: int) -> Packet | Dropped:
    """What is at `at`, through tags and labels."""
    for _ in range(_MOST_TAGS):
        if kind in _IP:
            return from_ip(data, at)
        if kind in _TAGS and len(data) >= at + 4:
            (kind,) = struct.unpack_from(">H", data, at + 2)
            at += 4
        elif kind in _MPLS and len(data) > at + 4:
            # The label says nothing of what follows the last one (RFC 3032, section 2.1): an IP's version does.
            bottom = data[at + 2] & 1
            at += 4
            if bottom:
                return from_ip(data, at)
        elif kind == _PPPOE and len(data) >= at + 8:
            kind = _PPP_TO_ETHERTYPE.get(int.from_bytes(data[at + 6 : at + 8]), 0)
            at += 8
        else:
            break
    return Dropped.UNKNOWN_HEADER


def from_ppp(data: bytes) -> Packet | Dropped:
    """RFC 1662, section 3.1: the address and the control field, where they are not left out; then the protocol."""
    at = 2 if data[:2] == b"\xff\x03" else 0
    return from_ethertype(_PPP_TO_ETHERTYPE.get(int.from_bytes(data[at : at + 2]), 0), data, at + 2)


def from_ip(data: bytes, at: int = 0) -> Packet | Dropped:
    if len(data) <= at:
        return Dropped.CUT_OFF
    version = data[at] >> 4
    if version == 4:
        return _from_ipv4(data, at)
    if version == 6:
        return _from_ipv6(data, at)
    return Dropped.UNKNOWN_HEADER


def _from_ipv4(data: bytes, at: int) -> Packet | Dropped:
    header = (data[at] & 0xF) * 4
    if header < 20 or len(data) < at + header:
        return Dropped.CUT_OFF
    _, tos, length, _, offset, _, protocol = struct.unpack_from(">BBHHHBB", data, at)
    source, destination = data[at + 12 : at + 16], data[at + 16 : at + 20]
    # 0 is a segment that the network card is to cut up itself.
    end = at + length if header <= length else len(data)
    return _with_transport(source, destination, protocol, tos, data, at + header, end, fragment=bool(offset & 0x1FFF))


def _from_ipv6(data: bytes, at: int) -> Packet | Dropped:
    if len(data) < at + 40:
        return Dropped.CUT_OFF
    first, length, protocol = struct.unpack_from(">IHB", data, at)
    source, destination = data[at + 8 : at + 24], data[at + 24 : at + 40]
    start, end, fragment = at + 40, at + 40 + length if length else len(data), False
    for _ in range(_MOST_EXTENSIONS):
        if len(data) < start + 8:
            break
        if protocol in _EXTENSIONS:
            protocol, start = data[start], start + (data[start + 1] + 1) * 8
        elif protocol == _AUTHENTICATION:
            # RFC 4302, section 2.2: in units of four, less two.
            protocol, start = data[start], start + (data[start + 1] + 2) * 4
        elif protocol == _FRAGMENT:
            fragment = bool(int.from_bytes(data[start + 2 : start + 4]) & 0xFFF8)
            protocol, start = data[start], start + 8
            if fragment:
                # What follows is of the middle of the packet, and no header, whatever it looks like.
                break
        else:
            break
    return _with_transport(source, destination, protocol, (first >> 20) & 0xFF, data, start, end, fragment=fragment)


def _with_transport(
    source: bytes, destination: bytes, protocol: int, tos: int, data: bytes, at: int, end: int, *, fragment: bool
) -> Packet:
    ports, flags, start = (0, 0), 0, at
    if not fragment:
        if protocol in (TCP, UDP, SCTP) and len(data) >= at + 4:
            ports = struct.unpack_from(">HH", data, at)
        elif protocol in (ICMP, ICMPV6) and len(data) >= at + 2:
            ports = (0, int.from_bytes(data[at : at + 2]))
        if protocol == TCP and len(data) >= at + 14:
            start, flags = at + (data[at + 12] >> 4) * 4, data[at + 13]
        elif protocol == UDP:
            start = at + 8
    return Packet(source, destination, protocol, ports, flags, tos, fragment, data[start:end])
