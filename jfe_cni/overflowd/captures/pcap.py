"""The older capture format (draft-ietf-opsawg-pcap), in its four variants."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.dropped import Dropped, Drops

# Byte order, and parts of a second: section 4.
_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
PCAP_MAGICS = frozenset(struct.pack(order + "I", magic) for order in "<>" for magic in (_MICROSECONDS, _NANOSECONDS))

# No link's packet is larger, and none that a file claims is read (libpcap's MAXIMUM_SNAPLEN).
LARGEST_PACKET = 262_144

Captured = tuple[Microseconds, int, bytes]
"""When, the link's type (tcpdump.org/linktypes.html), the frame."""


def read_pcap(stream: BinaryIO, drops: Drops) -> Iterator[Captured]:
    """Raises RequestError where it is damaged."""
    header = stream.read(24)
    order = "<" if header[:4] in {struct.pack("<I", magic) for magic in (_MICROSECONDS, _NANOSECONDS)} else ">"
    if len(header) < 24:
        raise damaged("its header is cut off")
    magic, *_, link = struct.unpack(order + "IHHiIII", header)
    parts = 1_000 if magic == _NANOSECONDS else 1
    record = struct.Struct(order + "IIII")
    while head := stream.read(16):
        if len(head) < 16:
            drops[Dropped.CUT_OFF] += 1
            return
        seconds, fraction, captured, _ = record.unpack(head)
        if captured > LARGEST_PACKET:
            raise damaged(f"a packet of {captured} bytes")
        frame = stream.read(captured)
        if len(frame) < captured:
            # As head(1) leaves it, or a program that was ended while it wrote.
            drops[Dropped.CUT_OFF] += 1
            return
        # Its upper bits say how long the link's checksum is.
        yield seconds * 1_000_000 + fraction // parts, link & 0xFFFF, frame


def damaged(what: str) -> RequestError:
    return RequestError(f"the capture is damaged: {what}", remedy="capture it again")
