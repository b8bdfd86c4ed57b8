"""From sampled packets to flows: by the thousand where a header is as most are, one by one where it is not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.flows import EGRESS, FLOW, INGRESS, MAPPED, NO_DIRECTION, Flows
from jfe_cni.overflowd.decoders.sflow import Sample
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.packets import ETHERTYPE_MPLS, TCP, UDP, Packet, from_ethernet, from_ethertype, from_ip, from_ppp
from jfe_cni.overflowd.tunnels import PORTS, Tunnels

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.unsignedinteger[Any]]

# header_protocol (sflow_version_5.txt): what a raw header begins with.
ETHERNET, PPP, IPV4, IPV6, MPLS, POS = 1, 7, 11, 12, 13, 14

# As far as the ports and flags of TCP over IPv6 over Ethernet lie.
_WINDOW = 72
_NOTHING = bytes(_WINDOW)


def flows_of(samples: Sequence[Sample], at: Sequence[int], drops: Drops, tunnels: Tunnels) -> Flows:
    """Each is one packet, seen when it came here (`at`): sFlow tells no time. What is no IP is counted and left out."""
    flows = np.zeros(len(samples), FLOW)
    numbers = np.array([sample[2:] for sample in samples], "u8").reshape(-1, 5)
    flows["packets"] = 1
    flows["octets"], flows["sampling"], flows["input"], flows["output"], sources = numbers.T
    flows["direction"] = _directions(flows["input"], flows["output"], sources)
    flows["first"] = flows["last"] = np.asarray(at, "i8")
    done = _common(samples, flows)
    if tunnels:
        # Some that could be tunnels have been taken for what they are outside: they are read again, one by one.
        done &= ~((flows["protocol"] == UDP) & np.isin(flows["destination_port"], PORTS))
    kept = np.ones(len(samples), bool)
    for number in np.flatnonzero(~done).tolist():
        packet = _packet(samples[number])
        if isinstance(packet, Dropped):
            drops[packet] += 1
            kept[number] = False
        else:
            _fill(flows[number], tunnels.flow(packet))
    return flows if kept.all() else flows[kept]


def _directions(received: Numbers, sent: Numbers, sources: Numbers) -> npt.NDArray[np.uint8]:
    """Each interface samples by itself: a packet that two of them see may be told of twice. Of one that comes in and
    goes out by the same nobody knows which it was."""
    told = (sources != 0) & (received != sent)
    sides = np.where(sources == received, np.uint8(INGRESS), np.uint8(EGRESS))
    return np.where(told & ((sources == received) | (sources == sent)), sides, np.uint8(NO_DIRECTION))


def _common(samples: Sequence[Sample], flows: Flows) -> Mask:
    """Which of them were TCP or UDP, whole, over IPv4 without options or IPv6 without extensions, over plain Ethernet;
    their flows are filled in."""
    window = b"".join(
        (header + _NOTHING)[:_WINDOW] if link == ETHERNET and type(header) is bytes else _NOTHING
        for header, link, *_ in samples
    )
    rows = np.frombuffer(window, "u1").reshape(-1, _WINDOW)
    lengths = np.fromiter((len(sample[0]) if type(sample[0]) is bytes else 0 for sample in samples), "u4", len(samples))
    kind = rows[:, 12].astype("u2") << 8 | rows[:, 13]
    whole = (rows[:, 20] & 0x3F | rows[:, 21]) == 0
    four = (kind == 0x0800) & (rows[:, 14] == 0x45) & whole & _transport(rows[:, 23]) & (lengths >= 14 + 20 + 20)
    six = (kind == 0x86DD) & (rows[:, 14] >> 4 == 6) & _transport(rows[:, 20]) & (lengths >= 14 + 40 + 20)
    _take(flows, rows, four, source=26, size=4, protocol=23, ports=34)
    _take(flows, rows, six, source=22, size=16, protocol=20, ports=54)
    done: Mask = four | six
    return done


def _transport(protocol: npt.NDArray[np.uint8]) -> Mask:
    known: Mask = (protocol == TCP) | (protocol == UDP)
    return known


def _take(
    flows: Flows, rows: npt.NDArray[np.uint8], which: Mask, *, source: int, size: int, protocol: int,
    ports: int,
) -> None:  # fmt: skip
    where = np.flatnonzero(which)
    if not len(where):
        return
    found = rows if len(where) == len(rows) else rows[where]
    for name, at in (("source", source), ("destination", source + size)):
        addresses = np.zeros((len(where), 16), "u1")
        addresses[:, :12] = MAPPED
        addresses[:, 16 - size :] = found[:, at : at + size]
        flows[name][where] = addresses
    for name, at in (("source_port", ports), ("destination_port", ports + 2)):
        flows[name][where] = found[:, at].astype("u2") << 8 | found[:, at + 1]
    flows["protocol"][where] = found[:, protocol]
    flows["tcp_flags"][where] = np.where(found[:, protocol] == TCP, found[:, ports + 13], 0)


def _packet(sample: Sample) -> Packet | Dropped:
    if isinstance(sample.header, Packet):
        return sample.header
    if sample.link == ETHERNET:
        return from_ethernet(sample.header)
    if sample.link in (IPV4, IPV6):
        return from_ip(sample.header)
    if sample.link == MPLS:
        return from_ethertype(ETHERTYPE_MPLS, sample.header, 0)
    if sample.link in (PPP, POS):
        return from_ppp(sample.header)
    return Dropped.UNKNOWN_HEADER


def _fill(row: np.void, packet: Packet) -> None:
    for name, address in (("source", packet.source), ("destination", packet.destination)):
        raw = np.frombuffer(address, "u1")
        row[name] = raw if len(raw) == 16 else np.concatenate((MAPPED, raw))
    row["source_port"], row["destination_port"] = packet.ports
    row["protocol"], row["tcp_flags"] = packet.protocol, packet.tcp_flags
