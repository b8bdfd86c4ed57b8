"""Which of a tunnel's two flows is the flow. Pure.

The outer one is what a network carries, and its two ends know of it: what is inside is theirs, may be of third parties,
and is forged as easily as anything. Where both ends of the tunnel are this site's own (a fabric between its switches, a
way back from a scrubber), the outer flow tells nobody anything, and what is inside is what the network carries for
others: then that is the flow, through as many such tunnels as there are. So the site names its own tunnels' ends; where
it names none, nothing is looked into.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import UDP, Packet, from_ethernet, from_ethertype, from_ip

# IANA "Protocol Numbers".
IPV4_IN_IP, IPV6_IN_IP, GRE = 4, 41, 47
# RFC 7348, section 5; RFC 8926, section 3.3; 3GPP TS 29.281, 4.4.2.3.
VXLAN_PORT, GENEVE_PORT, GTP_PORT = 4_789, 6_081, 2_152
PORTS = (VXLAN_PORT, GENEVE_PORT, GTP_PORT)
# RFC 1701's ethertype for a bridged frame, of GRE (RFC 7637) and GENEVE (RFC 8926, section 3.4) alike.
_BRIDGED = 0x6558
# 3GPP TS 29.281, 7.1: what a user sent; and bits of the first octet for which four more octets follow.
_GTP_USER_DATA, _GTP_OPTIONAL = 0xFF, 0x07
_MOST_EXTENSIONS = 8
_DEEPEST = 4
# Addresses of which it is remembered whether they are the site's.
_MOST_REMEMBERED = 65_536


class Tunnels:
    """`ends`: networks that the site's own tunnels begin and end in."""

    def __init__(self, ends: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._ends = tuple(ends)
        self._known: dict[bytes, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._ends)

    def flow(self, packet: Packet) -> Packet:
        """What is in the site's own tunnels, else the packet. Where what is inside is cut off, or of no IP, the outer
        packet is all that is known."""
        for _ in range(_DEEPEST):
            if not self._is_own(packet.source) or not self._is_own(packet.destination):
                break
            inner = inside(packet)
            if not isinstance(inner, Packet):
                break
            packet = inner
        return packet

    def _is_own(self, address: bytes) -> bool:
        known = self._known.get(address)
        if known is None:
            asked = ip_address(address)
            known = any(asked.version == each.version and asked in each for each in self._ends)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known


def inside(packet: Packet) -> Packet | Dropped | None:
    """None: it is no tunnel."""
    if packet.fragment:
        return None
    if packet.protocol in (IPV4_IN_IP, IPV6_IN_IP):
        return from_ip(packet.payload)
    if packet.protocol == GRE:
        return _in_gre(packet.payload)
    if packet.protocol != UDP:
        return None
    reader = _READERS.get(packet.ports[1])
    return None if reader is None else reader(packet.payload)


def _in_gre(data: bytes) -> Packet | Dropped | None:
    """RFC 2784 and RFC 2890: version 0."""
    if len(data) < 4:
        return Dropped.CUT_OFF
    flags, kind = struct.unpack_from(">HH", data)
    if flags & 0x7:
        return None
    # Checksum, key and sequence number: four octets each, where their bits are set.
    return _of_kind(kind, data, 4 + 4 * (flags & 0xB000).bit_count())


def _in_vxlan(data: bytes) -> Packet | Dropped | None:
    return from_ethernet(data[8:])


def _in_geneve(data: bytes) -> Packet | Dropped | None:
    if len(data) < 8:
        return Dropped.CUT_OFF
    # RFC 8926, section 3.4: the version, then the length of options in units of four.
    if data[0] >> 6:
        return None
    return _of_kind(int.from_bytes(data[2:4]), data, 8 + 4 * (data[0] & 0x3F))


def _in_gtp(data: bytes) -> Packet | Dropped | None:
    """3GPP TS 29.281, section 5: version 1, with extension headers."""
    if len(data) < 8:
        return Dropped.CUT_OFF
    if data[0] >> 4 != 0b0011 or data[1] != _GTP_USER_DATA:
        return None
    at = 8
    if data[0] & _GTP_OPTIONAL:
        at, more = 12, data[11:12]
        for _ in range(_MOST_EXTENSIONS):
            if not data[0] & 0x4 or more in (b"\0", b"") or not data[at : at + 1]:
                break
            at += max(data[at], 1) * 4
            more = data[at - 1 : at]
    return from_ip(data, at)


def _of_kind(kind: int, data: bytes, at: int) -> Packet | Dropped:
    return from_ethernet(data[at:]) if kind == _BRIDGED else from_ethertype(kind, data, at)


_READERS: dict[int, Callable[[bytes], Packet | Dropped | None]] = {
    VXLAN_PORT: _in_vxlan,
    GENEVE_PORT: _in_geneve,
    GTP_PORT: _in_gtp,
}
