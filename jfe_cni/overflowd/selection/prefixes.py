"""Sets of prefixes, asked for many addresses at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
Network = IPv4Network | IPv6Network

# RFC 4291, 2.5.5.2: where an IPv4 address lies among IPv6's.
_MAPPED = 0xFFFF << 32
_MAPPED_BITS = 96
_HALF = (1 << 64) - 1


class Prefixes:
    """Those of other prefixes are left out: each address is looked for once, by bisection, however many there are."""

    def __init__(self, networks: Iterable[Network]) -> None:
        ranges = sorted(range_of(each) for each in networks)
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        self._firsts = halves([first for first, _ in merged])
        self._lasts = halves([last for _, last in merged])

    def __bool__(self) -> bool:
        return bool(len(self._firsts))

    def contain(self, addresses: npt.NDArray[np.uint8]) -> Mask:
        """`addresses`: n times 16 bytes."""
        if not self:
            return np.zeros(len(addresses), bool)
        words = np.ascontiguousarray(addresses).view(">u8").astype("u8")
        # Of the ranges that begin at or before each address, the last.
        at = count_not_after(self._firsts, words) - 1
        inside: Mask = (at >= 0) & _not_after(words, self._lasts[np.maximum(at, 0)])
        return inside


def range_of(network: Network) -> tuple[int, int]:
    """The first and the last, among IPv6's addresses."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return (_MAPPED | first, _MAPPED | last) if network.version == 4 else (first, last)


def halves(values: list[int]) -> Words:
    """Upper and lower 64 bits."""
    return np.array([(value >> 64, value & _HALF) for value in values], "u8").reshape(-1, 2)


def count_not_after(bounds: Words, words: Words) -> npt.NDArray[np.int64]:
    """How many of the bounds, which are in order, are not after each of the words."""
    # Where the upper halves are the same, the lower ones decide.
    least = np.searchsorted(bounds[:, 0], words[:, 0], side="left")
    most = np.searchsorted(bounds[:, 0], words[:, 0], side="right")
    count = least.astype("i8")
    same = np.flatnonzero(most > least)
    for upper in np.unique(words[same, 0]):
        which = same[words[same, 0] == upper]
        first, last = least[which[0]], most[which[0]]
        count[which] += np.searchsorted(bounds[first:last, 1], words[which, 1], side="right")
    return count


def _not_after(words: Words, bounds: Words) -> Mask:
    found: Mask = (words[:, 0] < bounds[:, 0]) | ((words[:, 0] == bounds[:, 0]) & (words[:, 1] <= bounds[:, 1]))
    return found
