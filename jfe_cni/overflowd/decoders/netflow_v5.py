"""NetFlow v5: one layout for all (Cisco, "NetFlow Export Datagram Format", tables B-3 and B-4). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.elements import iana
from jfe_cni.overflowd.decoders.templates import Field, Template

_HEADER = np.dtype(
    [
        ("version", ">u2"),
        ("count", ">u2"),
        ("uptime", ">u4"),
        ("seconds", ">u4"),
        ("nanoseconds", ">u4"),
        ("sequence", ">u4"),
        ("engine", ">u2"),
        ("sampling", ">u2"),
    ]
)

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


@dataclass(frozen=True)
class Exported:
    """Of one engine of a router (type and id), with what each datagram said: `records`, and how many. `exported`,
    `started`: microseconds since the epoch. `sampling`: one packet in so many, 0 where it isn't told."""

    engine: int
    records: list[bytes]
    counts: npt.NDArray[np.int64]
    exported: npt.NDArray[np.int64]
    started: npt.NDArray[np.int64]
    sampling: npt.NDArray[np.uint32]


def parse(payloads: Sequence[bytes]) -> tuple[Iterator[Exported], int]:
    """All of one router; and how many are cut off, or say that they hold nothing."""
    whole = [each for each in payloads if len(each) >= _HEADER.itemsize]
    headers = np.frombuffer(b"".join([each[: _HEADER.itemsize] for each in whole]), _HEADER)
    counts = headers["count"].astype(np.int64)
    lengths = np.fromiter(map(len, whole), np.int64, len(whole))
    fit = np.flatnonzero((counts > 0) & (_HEADER.itemsize + counts * TEMPLATE.shortest <= lengths))
    return _by_engine(whole, headers, fit), len(payloads) - len(fit)


def _by_engine(
    payloads: Sequence[bytes], headers: npt.NDArray[np.void], fit: npt.NDArray[np.intp]
) -> Iterator[Exported]:
    if not len(fit):
        return
    engines = headers["engine"][fit]
    order = np.argsort(engines, kind="stable")
    numbers, starts = np.unique(engines[order], return_index=True)
    for number, of_it in zip(numbers.tolist(), np.split(fit[order], starts[1:]), strict=True):
        yield _exported(number, payloads, headers[of_it], of_it)


def _exported(
    engine: int, payloads: Sequence[bytes], told: npt.NDArray[np.void], which: npt.NDArray[np.intp]
) -> Exported:
    counts = told["count"].astype(np.int64)
    ends = _HEADER.itemsize + counts * TEMPLATE.shortest
    records = [payloads[each][_HEADER.itemsize : end] for each, end in zip(which.tolist(), ends.tolist(), strict=True)]
    exported = told["seconds"].astype(np.int64) * 1_000_000 + told["nanoseconds"] // 1_000
    started = exported - told["uptime"].astype(np.int64) * 1_000
    # Two bits of mode, then the interval.
    return Exported(engine, records, counts, exported, started, (told["sampling"] & 0x3FFF).astype(np.uint32))
