"""The kinds of links that captures are made on (tcpdump.org/linktypes.html)."""

from __future__ import annotations

import struct

from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import Packet, from_ethernet, from_ethertype, from_ip

# All of a frame is IP, of either version or one.
_IP_ALONE = frozenset({101, 228, 229})
# Four bytes of address family, in the capturing host's order, then IP: BSD's loopback.
_FAMILY_THEN_IP = frozenset({0, 108})
_ETHERNET = 1
# "Cooked" captures of Linux, on the device `any`: the header's length, and where it has the protocol.
_COOKED = {113: (16, 14), 276: (20, 0)}


def packet_of(link: int, frame: bytes) -> Packet | Dropped:
    if link == _ETHERNET:
        return from_ethernet(frame)
    if link in _IP_ALONE:
        return from_ip(frame)
    if link in _FAMILY_THEN_IP:
        return from_ip(frame, 4)
    if link in _COOKED:
        header, where = _COOKED[link]
        if len(frame) < header:
            return Dropped.CUT_OFF
        return from_ethertype(struct.unpack_from(">H", frame, where)[0], frame, header)
    return Dropped.UNKNOWN_HEADER
