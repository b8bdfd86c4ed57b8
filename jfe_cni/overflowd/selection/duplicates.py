"""A packet that several routers see has the odds of one. Memory does not grow with flows. Pure, but for what it keeps.

The odds are of each packet, so slices of a long flow need nothing: each brings the packets that it has. But k observers
on a path bring each packet k times. What a record's packets count for is its *share*, and the shares of one packet must
come to 1:

* Where every packet is looked at, all observers tell the same of a flow. The first of them to tell of it owns it: its
  records count whole, those of the others not at all, however much later they come (within `window` of the owner's
  last). That is exact for every flow, the smallest included.
* Where one packet in s is looked at, a small flow is seen by one of k observers or none, and nothing in it says of how
  many. So it is by destination: all of them together count for as many packets as the one tells of that tells of most.
  Whatever goes there passes that one, be it the last router before it, and its records stand, in the mean, for all
  packets that it carried. Of several that tell of as many the luckiest is taken, which is too much by about one part in
  the square root of the samples. Where a destination is reached by several last routers side by side, its packets count
  for too little, by that factor.

Who knows its border does better: `border.py`, which is exact for both.

Cells are found by hash. A flow whose cell another has counts by its destination. A destination gets its cell by a vote
of its packets (Boyer and Moore, 1981), so that those with much traffic have theirs; one that has none counts whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.selection.hashing import Words, joined, mixed, of_addresses
from jfe_cni.overflowd.selection.odds import Probabilities, packets_behind

WINDOW: Microseconds = 300_000_000
"""Longer than routers hold a slice of a flow back, as most are set: one minute, or two."""

_FLOW_CELLS, _DESTINATION_CELLS = 1 << 21, 1 << 16
# Observers of one destination that are told apart; more are counted in the sum alone.
_SLOTS = 8
_SECOND = 1_000_000


@dataclass(frozen=True)
class Observer:
    """`domain`: observation domain, which may be a line card of its own that sees the same packet again."""

    address: Address
    domain: int = 0


class Duplicates:
    """`seed`: nobody who sends may know which flows fall together."""

    def __init__(self, seed: int, window: Microseconds = WINDOW) -> None:
        chance = np.random.Generator(np.random.PCG64(seed))
        self._salts = chance.integers(0, 2**64, (3, 2), "u8", endpoint=False)
        self._owned = _Owned(window)
        self._paths = _Paths(window)

    def shares(self, flows: Flows, observer: Observer, at: Microseconds) -> Probabilities:
        """What part of each record's packets counts; takes them in. `flows`: of one observer. `at`: now."""
        # A router may count a packet as it comes and again as it goes (flowDirection): that is two observers.
        directions = np.unique(flows["direction"]).tolist()
        if len(directions) == 1:
            return self._of_direction(flows, self._number(observer, directions[0]), at)
        shares = np.ones(len(flows))
        for direction in directions:
            where = np.flatnonzero(flows["direction"] == direction)
            shares[where] = self._of_direction(flows[where], self._number(observer, direction), at)
        return shares

    def _of_direction(self, flows: Flows, observer: int, at: Microseconds) -> Probabilities:
        destinations = of_addresses(flows["destination"], self._salts[0])
        packets = packets_behind(flows["packets"], flows["sampling"])
        shares = self._paths.shares(destinations, packets, observer, at)
        whole = np.flatnonzero(flows["sampling"] <= 1)
        if len(whole):
            found = flows if len(whole) == len(flows) else flows[whole]
            ports = found["source_port"].astype("u8") << np.uint64(24) | found["destination_port"].astype("u8") << 8
            ends = joined(of_addresses(found["source"], self._salts[1]), destinations[whole])
            owned = self._owned.shares(joined(ends, ports | found["protocol"]), observer, at)
            shares[whole] = np.where(np.isnan(owned), shares[whole], owned)
        return shares

    def _number(self, observer: Observer, direction: int) -> int:
        """32 bits of its hash, none of them 0, which is nobody's."""
        packed = int.from_bytes(observer.address.packed)
        halves = np.array([packed >> 64, packed & 2**64 - 1, observer.domain << 8 | direction], "u8")
        both = joined(mixed(halves[:1] ^ self._salts[2, 0]), halves[1:2])
        return int(joined(both, halves[2:])[0] >> np.uint64(32)) | 1


class _Owned:
    """Flows, each with the observer that it counts for."""

    def __init__(self, window: Microseconds) -> None:
        self._window = window // _SECOND
        self._tags = np.zeros(_FLOW_CELLS, "u4")
        self._owners = np.zeros(_FLOW_CELLS, "u4")
        self._seen = np.zeros(_FLOW_CELLS, "u4")

    def shares(self, flows: Words, observer: int, at: Microseconds) -> Probabilities:
        """NaN: another flow has its cell."""
        now = at // _SECOND
        cells, tags = (flows % np.uint64(_FLOW_CELLS)).astype("i8"), (flows >> np.uint64(32)).astype("u4")
        # What was seen later than now was seen before the clock was set back.
        free = np.abs(now - self._seen[cells].astype("i8")) > self._window
        mine = free | (self._tags[cells] == tags) & (self._owners[cells] == observer)
        taken = cells[mine]
        self._tags[taken], self._owners[taken], self._seen[taken] = tags[mine], observer, now
        # Of several flows that met in one free cell, one has got it.
        here = self._tags[cells] == tags
        shares: Probabilities = np.where(here, np.where(self._owners[cells] == observer, 1.0, 0.0), np.nan)
        return shares


class _Paths:
    """Destinations with much traffic, each with how many packets its observers tell of, and how many have counted. All
    is halved once a window, so that paths may change; where a flood ends, what the late ones tell of it after that
    counts again, up to as much as the latest is late by."""

    def __init__(self, window: Microseconds) -> None:
        self._window = window
        self._since: Microseconds = 0
        self._tags = np.zeros(_DESTINATION_CELLS, "u4")
        self._votes = np.zeros(_DESTINATION_CELLS)
        self._counted = np.zeros(_DESTINATION_CELLS)
        self._observers = np.zeros((_DESTINATION_CELLS, _SLOTS), "u4")
        self._packets = np.zeros((_DESTINATION_CELLS, _SLOTS))

    def shares(self, destinations: Words, packets: Probabilities, observer: int, at: Microseconds) -> Probabilities:
        self._turn(at)
        distinct, which = np.unique(destinations, return_inverse=True)
        told: Probabilities = np.bincount(which, packets, len(distinct)).astype("f8")
        cells, tags = (distinct % np.uint64(_DESTINATION_CELLS)).astype("i8"), (distinct >> np.uint64(32)).astype("u4")
        self._vote(cells, tags, told)
        here = np.flatnonzero(self._tags[cells] == tags)
        shares = np.ones(len(distinct))
        shares[here] = self._taken_in(cells[here], told[here], observer)
        return shares[which]

    def _vote(self, cells: npt.NDArray[np.int64], tags: npt.NDArray[np.uint32], told: Probabilities) -> None:
        same = self._tags[cells] == tags
        np.add.at(self._votes, cells, np.where(same, told, -told))
        new = np.flatnonzero(~same & (self._votes[cells] < 0))
        taken = cells[new]
        self._tags[taken], self._votes[taken] = tags[new], told[new]
        self._counted[taken], self._observers[taken], self._packets[taken] = 0, 0, 0

    def _taken_in(self, cells: npt.NDArray[np.int64], told: Probabilities, observer: int) -> Probabilities:
        known = self._observers[cells]
        free = known == 0
        same = known == observer
        slots = np.where(same.any(axis=1), same.argmax(axis=1), free.argmax(axis=1))
        room = np.flatnonzero((same | free).any(axis=1))
        self._observers[cells[room], slots[room]] = observer
        self._packets[cells[room], slots[room]] += told[room]
        more = np.clip(self._packets[cells].max(axis=1) - self._counted[cells], 0, told)
        self._counted[cells] += more
        # Records of no packets count for nothing anyway.
        shares: Probabilities = np.divide(more, told, out=np.ones(len(cells)), where=told > 0)
        return shares

    def _turn(self, at: Microseconds) -> None:
        # Where the clock was set back windows begin anew.
        self._since = min(self._since, at)
        if at < self._since + self._window:
            return
        windows = (at - self._since) // self._window
        self._since += windows * self._window
        part = 0.5 ** min(windows, 64)
        self._votes *= part
        self._counted *= part
        self._packets *= part
