"""sFlow version 5 (sflow.org/sflow_version_5.txt): samples of packets; counters are skipped. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import Packet, from_ethernet, from_ip

# Enterprise 0's formats of samples and of what is in them.
_FLOW, _EXPANDED_FLOW = 1, 3
_RAW_HEADER, _IPV4, _IPV6 = 1, 3, 4
# header_protocol: what a raw header begins with.
_ETHERNET, _HEADER_IPV4, _HEADER_IPV6 = 1, 11, 12
_INTERNAL = 0x3FFFFFFF


@dataclass(frozen=True, slots=True)
class Header:
    agent: Address
    sub_agent: int
    samples: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One packet. `octets`: of the whole frame. `sampling`: one in so many."""

    packet: Packet
    octets: int
    sampling: int
    input: int
    output: int


def parse(payload: bytes) -> Header | None:
    """None: it is cut off, or its agent's address is of neither kind."""
    if len(payload) < 28:
        return None
    (kind,) = struct.unpack_from(">I", payload, 4)
    if kind not in (1, 2):
        return None
    size = 4 if kind == 1 else 16
    if len(payload) < 24 + size:
        return None
    agent = IPv4Address(payload[8:12]) if kind == 1 else IPv6Address(payload[8:24])
    sub_agent, _, _, count = struct.unpack_from(">IIII", payload, 8 + size)
    return Header(agent, sub_agent, payload[24 + size :], count)


def samples_of(header: Header) -> Iterator[Sample | Dropped]:
    """In their order; after MALFORMED nothing more is found."""
    data, at = header.samples, 0
    for _ in range(header.count):
        if len(data) - at < 8:
            yield Dropped.MALFORMED
            return
        kind, length = struct.unpack_from(">II", data, at)
        at += 8
        if length > len(data) - at:
            yield Dropped.MALFORMED
            return
        if kind in (_FLOW, _EXPANDED_FLOW):
            yield _sample(data[at : at + length], expanded=kind == _EXPANDED_FLOW)
        else:
            yield Dropped.UNKNOWN_FORMAT
        at += length


def _sample(data: bytes, *, expanded: bool) -> Sample | Dropped:
    if len(data) < (44 if expanded else 32):
        return Dropped.MALFORMED
    if expanded:
        _, _, _, sampling, _, _, _, received, _, sent, count = struct.unpack_from(">IIIIIIIIIII", data)
        at = 44
    else:
        _, _, sampling, _, _, received, sent, count = struct.unpack_from(">IIIIIIII", data)
        received, sent, at = received & _INTERNAL, sent & _INTERNAL, 32
    found: Sample | Dropped = Dropped.UNKNOWN_HEADER
    for _ in range(count):
        if len(data) - at < 8:
            return Dropped.MALFORMED
        kind, length = struct.unpack_from(">II", data, at)
        at += 8
        if length > len(data) - at:
            return Dropped.MALFORMED
        read = _packet(kind, data[at : at + length])
        if read is not None:
            packet, octets = read
            if isinstance(packet, Packet):
                # A raw header says more than the summary that may stand beside it.
                return Sample(packet, octets, sampling, received, sent)
            found = packet
        # XDR fills up to four bytes, and not everybody counts them in.
        at += length
    return found


def _packet(kind: int, data: bytes) -> tuple[Packet | Dropped, int] | None:
    """With the frame's octets; None for a record that is of no packet."""
    if kind == _RAW_HEADER and len(data) >= 16:
        protocol, octets, _, length = struct.unpack_from(">IIII", data)
        header = data[16 : 16 + length]
        if protocol == _ETHERNET:
            return from_ethernet(header), octets
        if protocol in (_HEADER_IPV4, _HEADER_IPV6):
            return from_ip(header), octets
        return Dropped.UNKNOWN_HEADER, octets
    if kind == _IPV4 and len(data) >= 32:
        octets, protocol, source, destination, first, second, flags, tos = struct.unpack_from(">II4s4sIIII", data)
        ends: tuple[Address, Address] = IPv4Address(source), IPv4Address(destination)
    elif kind == _IPV6 and len(data) >= 56:
        octets, protocol, source, destination, first, second, flags, tos = struct.unpack_from(">II16s16sIIII", data)
        ends = IPv6Address(source), IPv6Address(destination)
    else:
        return None
    ports = (first & 0xFFFF, second & 0xFFFF)
    packet = Packet(*ends, protocol & 0xFF, ports, flags & 0xFFFF, tos & 0xFF, fragment=False, payload=b"")
    return packet, octets
