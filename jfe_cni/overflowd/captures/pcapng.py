"""The newer capture format (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from jfe_cni.overflowd.captures.pcap import LARGEST_PACKET, Captured, damaged
from jfe_cni.overflowd.dropped import Dropped, Drops

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
# Sections 4 and A: `_OBSOLETE` is what the enhanced block was before.
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 1, 2, 3, 6
# Without packets: names, statistics, the system's journal, secrets.
_NO_PACKETS = frozenset({4, 5, 9, 10})
_BYTE_ORDER = 0x1A2B3C4D
_IF_TSRESOL, _IF_TSOFFSET = 9, 14
_LARGEST_BLOCK = LARGEST_PACKET + 65_536
_MOST_INTERFACES = 1_024


@dataclass(frozen=True)
class _Interface:
    """`resolution`: of its times, parts of a second. `offset`: seconds that are added to them."""

    link: int
    snapshot: int
    resolution: int
    offset: int


def read_pcapng(stream: BinaryIO, drops: Drops) -> Iterator[Captured]:
    """Packets of all interfaces, with the time 0 where a block has none. Blocks of unknown kinds are counted, for they
    may hold packets. Raises RequestError where it is damaged."""
    order, interfaces = "<", list[_Interface]()
    while head := stream.read(8):
        if len(head) < 8:
            drops[Dropped.CUT_OFF] += 1
            return
        if head[:4] == PCAPNG_MAGIC:
            mark = stream.read(4)
            order = "<" if mark == struct.pack("<I", _BYTE_ORDER) else ">"
            if struct.unpack(order + "I", mark.ljust(4, b"\0"))[0] != _BYTE_ORDER:
                raise damaged("a section without its byte order")
            if _body(stream, order, head, read=4) is None:
                drops[Dropped.CUT_OFF] += 1
                return
            interfaces = []
            continue
        kind, _ = struct.unpack(order + "II", head)
        body = _body(stream, order, head)
        if body is None:
            drops[Dropped.CUT_OFF] += 1
            return
        if kind == _INTERFACE:
            if len(interfaces) == _MOST_INTERFACES:
                raise damaged(f"more than {_MOST_INTERFACES} interfaces")
            interfaces.append(_interface(order, body))
        elif kind in (_ENHANCED, _SIMPLE, _OBSOLETE):
            yield _packet(order, kind, body, interfaces)
        elif kind not in _NO_PACKETS:
            drops[Dropped.UNKNOWN_FORMAT] += 1


def _body(stream: BinaryIO, order: str, head: bytes, read: int = 0) -> bytes | None:
    """Without the length that is repeated at its end. None: the file ends before."""
    (length,) = struct.unpack_from(order + "I", head, 4)
    if length % 4 or not 12 + read <= length <= _LARGEST_BLOCK:
        raise damaged(f"a block of {length} bytes")
    body = stream.read(length - 8 - read)
    if len(body) < length - 8 - read:
        return None
    return body[:-4]


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise damaged("an interface that is cut off")
    link, _, snapshot = struct.unpack_from(order + "HHI", body)
    resolution, offset, at = 1_000_000, 0, 8
    while len(body) >= at + 4:
        code, length = struct.unpack_from(order + "HH", body, at)
        if code == _IF_TSRESOL and length == 1 and len(body) > at + 4:
            exponent = body[at + 4]
            resolution = 2 ** (exponent & 0x7F) if exponent & 0x80 else 10 ** min(exponent, 18)
        if code == _IF_TSOFFSET and length == 8 and len(body) >= at + 12:
            (offset,) = struct.unpack_from(order + "q", body, at + 4)
        if code == 0:
            break
        at += 4 + (length + 3) // 4 * 4
    return _Interface(link, snapshot, resolution, offset)


def _packet(order: str, kind: int, body: bytes, interfaces: list[_Interface]) -> Captured:
    if kind == _ENHANCED and len(body) >= 20:
        number, high, low, captured, _ = struct.unpack_from(order + "IIIII", body)
        start = 20
    elif kind == _OBSOLETE and len(body) >= 20:
        number, _, high, low, captured, _ = struct.unpack_from(order + "HHIIII", body)
        start = 20
    elif kind == _SIMPLE and len(body) >= 4 and interfaces:
        number, high, low, start = 0, 0, 0, 4
        (original,) = struct.unpack_from(order + "I", body)
        captured = min(original, interfaces[0].snapshot or original)
    else:
        raise damaged("a packet that is cut off")
    if number >= len(interfaces):
        raise damaged("a packet of an interface that it does not name")
    if len(body) < start + captured:
        raise damaged("a packet that is cut off")
    interface = interfaces[number]
    at = ((high << 32) | low) * 1_000_000 // interface.resolution
    if kind != _SIMPLE:
        at += interface.offset * 1_000_000
    return at, interface.link, body[start : start + captured]
