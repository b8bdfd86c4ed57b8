"""NetFlow v5: one layout for all (Cisco, "NetFlow Export Datagram Format", tables B-3 and B-4). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from jfe_cni.overflowd.decoders.elements import iana
from jfe_cni.overflowd.decoders.templates import Field, Template

_HEADER = struct.Struct(">HHIIIIBBH")

TEMPLATE = Template(
    0,
    tuple(
        Field(iana(number), length)
        for number, length in (
            (8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (210, 1),
            (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2),
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """`exported`, `started`: microseconds since the epoch. `sampling`: one packet in so many, 0 where it isn't told."""

    exported: int
    started: int
    domain: int
    sampling: int
    records: bytes


def parse(payload: bytes) -> Header | None:
    """None: it is cut off."""
    if len(payload) < _HEADER.size:
        return None
    _, count, uptime, seconds, nanoseconds, _, engine_type, engine_id, sampling = _HEADER.unpack_from(payload)
    records = payload[_HEADER.size : _HEADER.size + count * TEMPLATE.shortest]
    if count == 0 or len(records) < count * TEMPLATE.shortest:
        return None
    exported = seconds * 1_000_000 + nanoseconds // 1_000
    # Two bits of mode, then the interval.
    return Header(exported, exported - uptime * 1_000, engine_type << 8 | engine_id, sampling & 0x3FFF, records)
