"""From exports to the first notice of a flood: the more it is, the sooner, and as much as the formula says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.notices.notice import Reporter
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import DEFAULT, Draw
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import Site
from tests.overflowd.exports import NOW, datagram, v5, v5_record

FLOODS, SAMPLING = 600, 100
_RECORDS = 30


def second(at: int, packets: int) -> Iterator[Datagram]:
    """What a router tells of each flood, one packet in a hundred of which it has looked at."""
    for first in range(0, FLOODS, _RECORDS):
        numbers = range(first, first + _RECORDS)
        records = (v5_record(f"11.{n >> 8}.{n & 255}.1", f"12.{n >> 8}.{n & 255}.1", packets=packets) for n in numbers)
        yield datagram(v5(*records, sampling=1 << 14 | SAMPLING), at=at)


def seconds_until_told(a_second: int, seed: int) -> npt.NDArray[np.int64]:
    """Of each flood, of so many packets a second."""
    decoder = Decoder()
    selector = Selector(Site(), Reporter("abuse@t.example", "T", 0, "https://t.example/"), Draw(seed), FanIn(seed))
    told = np.zeros(FLOODS, np.int64)
    elapsed = 0
    while not told.all():
        elapsed += 1
        for batch in decoder.decode(list(second(NOW + elapsed, a_second // SAMPLING))):
            for notice in selector.notices(batch.flows, (NOW + elapsed) * 1_000_000):
                _, high, low, _ = notice.flow.destination.packed
                told[high << 8 | low] = told[high << 8 | low] or elapsed
    return told


@pytest.mark.parametrize(("a_second", "seed"), [(50_000, 1), (300_000, 2), (2_000_000, 3)])
def test_the_first_notice_of_a_flood_comes_when_the_formula_says(a_second: int, seed: int) -> None:
    """Kolmogorov and Smirnov, at the seconds in which slices end."""
    told = seconds_until_told(a_second, seed)
    seconds = np.arange(1, told.max() + 1)
    observed = np.searchsorted(np.sort(told), seconds, side="right") / FLOODS
    expected = 1 - (1 - DEFAULT) ** (seconds * float(a_second))
    # Once in a thousand times it is further off: 1.95 / √n (Smirnov's limit).
    assert float(np.max(np.abs(observed - expected))) < 1.95 / math.sqrt(FLOODS)


def test_the_nastier_the_flood_the_sooner() -> None:
    means = [float(seconds_until_told(a_second, 4).mean()) for a_second in (50_000, 500_000, 5_000_000)]
    assert means == sorted(means, reverse=True)
    # A slice's second is the least that there can be.
    assert means[0] / means[1] == pytest.approx(10, rel=0.3)
