"""Flows, in columns: what all protocols come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FLOW = np.dtype(
    [
        ("source", "u1", (16,)),
        ("destination", "u1", (16,)),
        ("source_port", "u2"),
        ("destination_port", "u2"),
        ("protocol", "u1"),
        ("tcp_flags", "u2"),
        ("direction", "u1"),
        ("packets", "u8"),
        ("octets", "u8"),
        ("first", "i8"),
        ("last", "i8"),
        ("sampling", "u4"),
        ("input", "u4"),
        ("output", "u4"),
    ]
)
"""One row a record. Addresses are IPv6's, an IPv4 address as ::ffff:0:0/96 has it (RFC 4291, 2.5.5.2). `first`, `last`:
microseconds since the epoch, 0 where they are not told. `sampling`: one packet in so many was looked at, 0 where it is
not told; `packets` and `octets` are of those, as the exporter counts them. `direction`: 0 ingress, 1 egress (IANA's
flowDirection), else `NO_DIRECTION`."""

NO_DIRECTION = 255
"""It is not told."""

Flows = npt.NDArray[np.void]

MAPPED = np.array([0] * 10 + [0xFF, 0xFF], "u1")


@dataclass(frozen=True)
class Moments:
    """When the datagrams were sent that some records came in. `counts`: how many records of each. `exported`:
    microseconds since the epoch, by the exporter's clock. `started`: what its `sysUpTime` counts from, the same; 0
    where a protocol has none."""

    counts: Sequence[int]
    exported: Sequence[int]
    started: Sequence[int]

    def of_records(self, moments: Sequence[int]) -> npt.NDArray[np.int64]:
        return np.repeat(np.asarray(moments, np.int64), self.counts)
