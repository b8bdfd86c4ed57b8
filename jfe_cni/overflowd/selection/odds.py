"""Each packet has its odds. A record of n packets, of which one in s was looked at, stands for n·s of them, and makes a
notice with 1 − (1 − p)^(n·s): as if each had been drawn by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DEFAULT = 1e-6
"""About one packet in a million, as in 2016."""

LARGEST = 1e-2
"""Whatever a rule says: more would tell of every short connection."""

Probabilities = npt.NDArray[np.float64]


def packets_behind(packets: npt.NDArray[np.uint64], sampling: npt.NDArray[np.uint32]) -> Probabilities:
    """As many packets as the records stand for; where the sampling is not told (0), those that were counted."""
    counted: Probabilities = packets.astype("f8") * np.maximum(sampling, 1)
    return counted


def of_notice(packets: Probabilities, odds: Probabilities | float) -> Probabilities:
    """`packets`: that each record stands for. `odds`: of each packet, in [0, 1).

    By log1p and expm1: of one packet in a million a float has no more than ten digits of 1 − p left, and of 1 − (1 − p)
    none that is right."""
    chances: Probabilities = -np.expm1(packets * np.log1p(-np.minimum(odds, LARGEST)))
    return chances


class Draw:
    """`seed`: None, the system's own chance. Nobody who sends can know what is drawn."""

    def __init__(self, seed: int | None = None) -> None:
        self._chance = np.random.Generator(np.random.PCG64(seed))

    def chosen(self, chances: Probabilities) -> npt.NDArray[np.intp]:
        """Where a notice is made."""
        return np.flatnonzero(self._chance.random(len(chances)) < chances)

    def some(self, chosen: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
        """So many of them, each as likely as another."""
        return chosen if len(chosen) <= most else np.sort(self._chance.choice(chosen, most, replace=False))
