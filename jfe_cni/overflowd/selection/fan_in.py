"""How many sources send to each destination, about, in memory that does not grow with either.

Linear counting (Whang et al., 1990) in rows of bitmaps, of which a destination has one in each row: the one that tells
the least is believed, for what others have left in it is only ever more. What others leave in every bitmap, on a busy
site, is what the one in the middle of all has: so much is taken off. Where that is half of what can be told, a bitmap
tells nothing of its destination any more, and nothing is said.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.selection.hashing import of_addresses

_ROWS = 2
_BITMAPS = 1 << 16
_BITS = 256
_WORDS = _BITS // 64
# Above it so few bits are left that the count is a guess.
MOST_TOLD = int(_BITS * np.log(_BITS / 4))
# A thousand bitmaps of a row tell what is in the middle of all within one source.
_SAMPLE = slice(None, None, _BITMAPS // 1_024)


class FanIn:
    """`window`: microseconds in which sources are counted together, two of which are looked at. `seed`: nobody who
    sends may know which addresses fall together."""

    def __init__(self, seed: int, window: Microseconds = 60_000_000) -> None:
        chance = np.random.Generator(np.random.PCG64(seed))
        self._salts = chance.integers(0, 2**64, (_ROWS + 1, 2), "u8", endpoint=False)
        self._window = window
        self._now = self._empty()
        self._before = self._empty()
        self._since: Microseconds = 0

    def count(
        self, sources: npt.NDArray[np.uint8], destinations: npt.NDArray[np.uint8], at: Microseconds
    ) -> npt.NDArray[np.float64]:
        """Takes these in, and says of each how many sources its destination has, `MOST_TOLD` at most. `at`: now."""
        self._turn(at)
        bits = self._hash(_ROWS, sources) % np.uint64(_BITS)
        words, ones = bits >> np.uint64(6), np.uint64(1) << (bits & np.uint64(63))
        found = np.full(len(sources), float(MOST_TOLD))
        for row in range(_ROWS):
            where = self._hash(row, destinations) % np.uint64(_BITMAPS)
            np.bitwise_or.at(self._now[row], (where, words), ones)
            background = float(np.median(self._told(row, _SAMPLE)))
            of_others = background if background <= MOST_TOLD / 2 else MOST_TOLD
            found = np.minimum(found, np.maximum(self._told(row, where) - of_others, 0))
        return found

    def _told(self, row: int, which: npt.NDArray[np.uint64] | slice) -> npt.NDArray[np.float64]:
        """About how many sources are in each of those bitmaps."""
        seen = np.bitwise_count(self._now[row][which] | self._before[row][which]).sum(axis=1)
        told: npt.NDArray[np.float64] = _BITS * np.log(_BITS / np.maximum(_BITS - seen.astype("f8"), 4))
        return told

    def _turn(self, at: Microseconds) -> None:
        # Also where the clock was set back: what is of now and what is not can't be told.
        if at < self._since or at >= self._since + 2 * self._window:
            self._now, self._before, self._since = self._empty(), self._empty(), at
        elif at >= self._since + self._window:
            self._now, self._before = self._empty(), self._now
            self._since += self._window

    def _hash(self, which: int, addresses: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        return of_addresses(addresses, self._salts[which])

    @staticmethod
    def _empty() -> npt.NDArray[np.uint64]:
        return np.zeros((_ROWS, _BITMAPS, _WORDS), "u8")
