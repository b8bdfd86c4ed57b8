"""Flows, in columns: what all protocols come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FLOW = np.dtype(
    [
        ("source", "u1", (16,)),
        ("destination", "u1", (16,)),
        ("packets", "u8"),
        ("octets", "u8"),
        ("first", "i8"),
        ("last", "i8"),
        ("sampling", "u4"),
        ("input", "u4"),
        ("output", "u4"),
        ("source_port", "u2"),
        ("destination_port", "u2"),
        ("tcp_flags", "u2"),
        ("protocol", "u1"),
        ("direction", "u1"),
    ],
    # By their sizes, so that this leaves no gaps: numpy takes twice as long to write what is not aligned.
    align=True,
)
"""One row a record. Addresses are IPv6's, an IPv4 address as ::ffff:0:0/96 has it (RFC 4291, 2.5.5.2). `first`, `last`:
microseconds since the epoch, 0 where they are not told. `sampling`: one packet in so many was looked at, 0 where it is
not told; `packets` and `octets` are of those, as the exporter counts them. `direction`: 0 ingress, 1 egress (IANA's
flowDirection), else `NO_DIRECTION`."""

INGRESS, EGRESS, NO_DIRECTION = 0, 1, 255
"""`NO_DIRECTION`: it is not told."""

Flows = npt.NDArray[np.void]

WORDS = np.dtype(
    {
        "names": ["source_high", "source_low", "destination_high", "destination_low"],
        "formats": [">u8"] * 4,
        "offsets": [0, 8, 16, 24],
        "itemsize": FLOW.itemsize,
    }
)
"""The addresses of a row, in halves: numpy copies a word at one stroke, and sixteen octets one by one."""

MAPPED_LOW = np.uint64(0xFFFF << 32)
"""Of the lower half of an IPv4 address."""

MAPPED = np.array([0] * 10 + [0xFF, 0xFF], "u1")


@dataclass(frozen=True)
class Moments:
    """When the datagrams were sent that some records came in. `counts`: how many records of each. `exported`:
    microseconds since the epoch, by the exporter's clock. `started`: what its `sysUpTime` counts from, the same; 0
    where a protocol has none."""

    counts: Sequence[int] | npt.NDArray[np.int64]
    exported: Sequence[int] | npt.NDArray[np.int64]
    started: Sequence[int] | npt.NDArray[np.int64]

    @cached_property
    def exported_of_records(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.asarray(self.exported, np.int64), self.counts)

    @cached_property
    def started_of_records(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.asarray(self.started, np.int64), self.counts)


def both_ends(flows: Flows) -> npt.NDArray[np.bool_]:
    """Of which rows there is a source and a destination, both of IPv4 or both of IPv6."""
    words = flows.view(WORDS)
    told = [(words[f"{end}_high"] != 0) | (words[f"{end}_low"] != 0) for end in ("source", "destination")]
    mapped = [
        (words[f"{end}_high"] == 0) & (words[f"{end}_low"] >> np.uint64(32) == MAPPED_LOW >> np.uint64(32))
        for end in ("source", "destination")
    ]
    both: npt.NDArray[np.bool_] = told[0] & told[1] & (mapped[0] == mapped[1])
    return both
