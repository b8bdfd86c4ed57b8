"""sFlow version 5 (sflow.org/sflow_version_5.txt): samples of packets; counters are skipped. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import Packet

# Enterprise 0's formats of samples and of what is in them.
_FLOW, _EXPANDED_FLOW = 1, 3
_RAW_HEADER, _IPV4, _IPV6 = 1, 3, 4
# An interface is two bits of format and thirty of value, or a word of each. Of format 0 the value is its ifIndex, and
# the greatest says that there is none: the device itself sends, or receives. Of 1 it is why the packet was discarded,
# of 2 how many interfaces it was sent by.
_INDEX, _DISCARDED = 0, 1
# Of sources that sample: an ifIndex, not a VLAN or a part of the device.
_INTERFACE = 0
_VALUE, _NONE = 0x3FFFFFFF, (0x3FFFFFFF, 0xFFFFFFFF)
_NORMAL, _EXPANDED = struct.Struct(">IIIIIIII"), struct.Struct(">IIIIIIIIIII")
_RECORD, _RAW = struct.Struct(">II"), struct.Struct(">IIII")


@dataclass(frozen=True, slots=True)
class Header:
    agent: Address
    sub_agent: int
    samples: bytes
    count: int


class Sample(NamedTuple):
    """One packet: its first bytes, and what they begin with; or, where those are not told, what it was found to be.
    `octets`: of the whole frame. `sampling`: one in so many. `input`, `output`: 0 where they are not one interface.
    `source`: the interface that samples; 0, what samples is none."""

    header: bytes | Packet
    link: int
    octets: int
    sampling: int
    input: int
    output: int
    source: int


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
        kind, length = _RECORD.unpack_from(data, at)
        at += 8
        if length > len(data) - at:
            yield Dropped.MALFORMED
            return
        if kind in (_FLOW, _EXPANDED_FLOW):
            yield _sample(data, at, at + length, expanded=kind == _EXPANDED_FLOW)
        else:
            yield Dropped.UNKNOWN_FORMAT
        at += length


def _sample(data: bytes, at: int, end: int, *, expanded: bool) -> Sample | Dropped:
    if end - at < (44 if expanded else 32):
        return Dropped.MALFORMED
    if expanded:
        _, kind_of_source, source, sampling, _, _, *interfaces, count = _EXPANDED.unpack_from(data, at)
        received_as, received, sent_as, sent = interfaces
        at += 44
    else:
        _, source, sampling, _, _, received, sent, count = _NORMAL.unpack_from(data, at)
        kind_of_source, source = source >> 24, source & 0xFFFFFF
        received_as, sent_as, received, sent = received >> 30, sent >> 30, received & _VALUE, sent & _VALUE
        at += 32
    if sent_as == _DISCARDED:
        # It came to no end that could be told of it.
        return Dropped.DISCARDED
    if received_as != _INDEX or received in _NONE:
        received = 0
    if sent_as != _INDEX or sent in _NONE:
        sent = 0
    if kind_of_source != _INTERFACE:
        source = 0
    found: Sample | None = None
    for _ in range(count):
        if end - at < 8:
            return Dropped.MALFORMED
        kind, length = _RECORD.unpack_from(data, at)
        at += 8
        if length > end - at:
            return Dropped.MALFORMED
        if kind == _RAW_HEADER and length >= 16:
            link, octets, _, size = _RAW.unpack_from(data, at)
            # It says more than the summary that may stand beside it.
            at += 16
            raw = data[at : at + (size if size < length - 16 else length - 16)]
            return Sample(raw, link, octets, sampling, received, sent, source)
        read = _summary(kind, data[at : at + length])
        if read is not None:
            found = Sample(*read, sampling, received, sent, source)
        at += length
    return found or Dropped.UNKNOWN_HEADER


def _summary(kind: int, data: bytes) -> tuple[Packet, int, int] | None:
    """The packet, of no link, and the frame's octets; None for a record that is of no packet."""
    if kind == _IPV4 and len(data) >= 32:
        octets, protocol, source, destination, first, second, flags, tos = struct.unpack_from(">II4s4sIIII", data)
    elif kind == _IPV6 and len(data) >= 56:
        octets, protocol, source, destination, first, second, flags, tos = struct.unpack_from(">II16s16sIIII", data)
    else:
        return None
    ports = (first & 0xFFFF, second & 0xFFFF)
    packet = Packet(source, destination, protocol & 0xFF, ports, flags & 0xFF, tos & 0xFF, fragment=False, payload=b"")
    return packet, 0, octets
