"""Salted hashes of many addresses at once, for sketches: nobody who sends may know what falls together. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(words: Words) -> Words:
    """SplitMix64's finaliser (Steele et al., 2014), without which neighbouring addresses would fall together."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def of_addresses(addresses: npt.NDArray[np.uint8], salts: Words) -> Words:
    """`addresses`: n times 16 bytes. `salts`: two."""
    halves = np.ascontiguousarray(addresses).view("u8")
    return mixed(mixed(halves[:, 0] ^ salts[0]) ^ halves[:, 1] ^ salts[1])


def joined(one: Words, other: Words) -> Words:
    """Of two that are hashes already, or numbers; not the same the other way round."""
    return mixed(one * _GOLDEN + other)
