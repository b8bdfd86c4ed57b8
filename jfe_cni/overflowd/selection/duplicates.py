"""A packet that several routers see has the odds of one. Memory does not grow with flows. Pure, but for what it keeps.

The odds are of each packet, so slices of a long flow need nothing: each brings the packets that it has. But k observers
on a path bring each packet k times. What a record's packets count for is its *share*, and the shares of one packet must
come to 1:

* Where every packet is looked at, all observers tell the same of a flow. The first of them to tell of it owns it: its
  records count whole, those of the others not at all, however much later they come (within `window` of the owner's
  last). That is exact for every flow, the smallest included. An owner that is silent for `LAPSE`, while another tells
  of packets that came after all that it told of, has lost the flow to that one. Where they don't tell when packets
  came, it may be silent for half as long again as before, too.
* Where one packet in s is looked at, a small flow is seen by one of k observers or none, and nothing in it says of how
  many. So it is by destination: all of them together count for as many packets as the one tells of that tells of most.
  Whatever goes there passes that one, be it the last router before it, and its records stand, in the mean, for all
  packets that it carried. Of several that tell of as many the luckiest is taken, which is too much by about one part in
  the square root of the samples. Where a destination is reached by several last routers side by side, its packets count
  for too little, by that factor.

One that tells of most need not be right: it may be broken, or forged. So nobody is taken to have told of what another
tells of who tells of less than one part in `LEAD` of as much: that is counted beside, which is too much by so little.
And who is silent while another goes on leads no more: what it told of is cut down to what the other has told.

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

LAPSE = 90
"""Seconds of silence after which another may take over: a slice of a minute, and what it may be late by."""

LEAD = 100
"""How many times as much one may tell of as another, and be believed to have told of the same: many times as many as
there are border routers before a last one. Eight observers come to 7 % too much at most."""

FASTEST = 800_000_000_000 / (84 * 8)
"""Packets a second of the fastest link (IEEE 802.3df-2024: 800 Gbit/s), each as small as can be: 64 octets, and 20 of
preamble and gap (IEEE 802.3, 4.4.2). No record tells of more than that in a window."""

_FLOW_CELLS, _DESTINATION_CELLS = 1 << 21, 1 << 16
# Observers of one destination that are told apart; more are counted in the sum alone.
_SLOTS = 8
_SECOND = 1_000_000
_UNTOLD = 0xFFFF
Seconds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Observer:
    """`domain`: observation domain, which may be a line card of its own that sees the same packet again. `exporter`:
    who sent its datagrams, where that is not itself: an sFlow agent writes any address of its own into them."""

    address: Address
    domain: int = 0
    exporter: Address | None = None

    @property
    def names(self) -> tuple[Address, ...]:
        """By which it is known to who names its interfaces; the one that a stranger can't write goes before."""
        return (self.address,) if self.exporter in (None, self.address) else (self.exporter, self.address)


@dataclass(frozen=True)
class _Ages:
    """Seconds between now and the first and the last packet of each record: 0, it is not told."""

    begun: Seconds
    ended: Seconds

    @classmethod
    def of(cls, flows: Flows, at: Microseconds) -> _Ages:
        # Whole seconds of either clock, so that what began in the second that another ended in is not taken for later.
        now = np.int64(min(max(at, -(1 << 62)), 1 << 62) // _SECOND)
        first, last = flows["first"], flows["last"]
        return cls(
            np.where(first == 0, 0, now - first // _SECOND),
            np.where(last == 0, 0, np.clip(now - last // _SECOND, 0, _UNTOLD)),
        )

    def __getitem__(self, which: npt.NDArray[np.intp]) -> _Ages:
        return _Ages(self.begun[which], self.ended[which])


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
        ages = _Ages.of(flows, at)
        shares = self._paths.shares(destinations, packets, ages, observer, at)
        whole = np.flatnonzero(flows["sampling"] <= 1)
        if len(whole):
            found = flows if len(whole) == len(flows) else flows[whole]
            ports = found["source_port"].astype("u8") << np.uint64(24) | found["destination_port"].astype("u8") << 8
            ends = joined(of_addresses(found["source"], self._salts[1]), destinations[whole])
            owned = self._owned.shares(joined(ends, ports | found["protocol"]), ages[whole], observer, at)
            shares[whole] = np.where(np.isnan(owned), shares[whole], owned)
        return shares

    def _number(self, observer: Observer, direction: int) -> int:
        """32 bits of its hash, none of them 0, which is nobody's."""
        packed = int.from_bytes(observer.address.packed)
        halves = np.array([packed >> 64, packed & 2**64 - 1, observer.domain << 8 | direction], "u8")
        both = joined(mixed(halves[:1] ^ self._salts[2, 0]), halves[1:2])
        return int(joined(both, halves[2:])[0] >> np.uint64(32)) | 1


def _wrapped(at: Microseconds) -> np.uint32:
    """Seconds, of any time: only how far two are apart is looked at, and that is little."""
    return np.uint32(at // _SECOND % (1 << 32))


class _Owned:
    """Flows, each with the observer that it counts for. `lag`: of what it told last, how long the last packet was ago;
    `pause`: between what it told, or `_UNTOLD`; seconds."""

    _CELL = np.dtype([("tag", "u4"), ("owner", "u4"), ("seen", "u4"), ("lag", "u2"), ("pause", "u2")])

    def __init__(self, window: Microseconds) -> None:
        self._window = window // _SECOND
        self._cells = np.zeros(_FLOW_CELLS, self._CELL)

    def shares(self, flows: Words, ages: _Ages, observer: int, at: Microseconds) -> Probabilities:
        """NaN: another flow has its cell."""
        now = _wrapped(at)
        cells, tags = (flows % np.uint64(_FLOW_CELLS)).astype("i8"), (flows >> np.uint64(32)).astype("u4")
        held = self._cells[cells]
        silent = (now - held["seen"]).astype("i4").astype("i8")
        lag, pause = held["lag"].astype("i8"), held["pause"].astype("i8")
        # What was seen later than now was seen before the clock was set back.
        free = (held["owner"] == 0) | (np.abs(silent) > self._window)
        same = held["tag"] == tags
        patience = np.where(ages.begun > 0, LAPSE, np.maximum(LAPSE, pause + pause // 2))
        lost = same & (silent > patience) & (ages.begun < silent + lag)
        mine = same & (held["owner"] == observer) & ~free
        taken = np.flatnonzero(mine | free | lost)
        # Slices are not all as long as the active timeout.
        pauses = np.clip(np.maximum(silent, np.where(pause == _UNTOLD, 0, pause - pause // 4)), 0, _UNTOLD)
        held["tag"], held["owner"], held["seen"] = tags, observer, now
        held["lag"] = np.where(mine, np.minimum(ages.ended, np.maximum(silent + lag, 0)), ages.ended)
        held["pause"] = np.where(mine, pauses, _UNTOLD)
        self._cells[cells[taken]] = held[taken]
        # Of several flows that met in one free cell, one has got it.
        held = self._cells[cells]
        owned = np.where(held["owner"] == observer, 1.0, 0.0)
        shares: Probabilities = np.where(held["tag"] == tags, owned, np.nan)
        return shares


class _Paths:
    """Destinations with much traffic, each with how many packets its observers tell of, and how many of them have
    counted. All is halved once a window, so that paths may change; where a flood ends, what the late ones tell of it
    after that counts again, up to as much as the latest is late by."""

    def __init__(self, window: Microseconds) -> None:
        self._window = window
        self._most = FASTEST * window / _SECOND
        self._since: Microseconds = 0
        self._tags = np.zeros(_DESTINATION_CELLS, "u4")
        self._votes = np.zeros(_DESTINATION_CELLS)
        self._observers = np.zeros((_SLOTS, _DESTINATION_CELLS), "u4")
        self._seen = np.zeros((_SLOTS, _DESTINATION_CELLS), "u4")
        self._packets = np.zeros((_SLOTS, _DESTINATION_CELLS))
        self._counted = np.zeros((_SLOTS, _DESTINATION_CELLS))

    def shares(
        self, destinations: Words, packets: Probabilities, ages: _Ages, observer: int, at: Microseconds
    ) -> Probabilities:
        self._turn(at)
        distinct, which = np.unique(destinations, return_inverse=True)
        told: Probabilities = np.bincount(which, np.minimum(packets, self._most), len(distinct)).astype("f8")
        begun = np.full(len(distinct), np.iinfo("i8").max)
        np.minimum.at(begun, which, ages.begun)
        cells, tags = (distinct % np.uint64(_DESTINATION_CELLS)).astype("i8"), (distinct >> np.uint64(32)).astype("u4")
        self._vote(cells, tags, told)
        here = np.flatnonzero(self._tags[cells] == tags)
        shares = np.ones(len(distinct))
        shares[here] = self._taken_in(cells[here], told[here], begun[here], observer, _wrapped(at))
        return shares[which]

    def _vote(self, cells: npt.NDArray[np.int64], tags: npt.NDArray[np.uint32], told: Probabilities) -> None:
        same = self._tags[cells] == tags
        np.add.at(self._votes, cells, np.where(same, told, -told))
        new = np.flatnonzero(~same & (self._votes[cells] < 0))
        taken = cells[new]
        self._tags[taken], self._votes[taken] = tags[new], told[new]
        self._counted[:, taken], self._observers[:, taken], self._packets[:, taken] = 0, 0, 0

    def _taken_in(
        self, cells: npt.NDArray[np.int64], told: Probabilities, begun: Seconds, observer: int, now: np.uint32
    ) -> Probabilities:
        observers = np.take(self._observers, cells, axis=1)
        # They fill from the first on.
        used = slice(min(int((observers != 0).any(axis=1).sum()) + 1, _SLOTS))
        observers, every = observers[used], np.arange(len(cells))
        packets = np.take(self._packets[used], cells, axis=1)
        silent = np.abs((now - np.take(self._seen[used], cells, axis=1)).astype("i4"))
        # Who tells late of what went by before another told has not outlasted that one.
        lapsed = (silent > self._window // _SECOND) | (silent > LAPSE) & (begun < silent)
        same = observers == observer
        slots, room = same.argmax(axis=0), same.any(axis=0)
        new = np.flatnonzero(~room)
        if len(new):
            slots[new] = np.where(observers[:, new] == 0, -1, packets[:, new]).argmin(axis=0)
            # Nobody keeps others out by telling a little in many names.
            least = slots[new], new
            new = new[(observers[least] == 0) | lapsed[least] | (packets[least] < told[new])]
            packets[slots[new], new] = 0
            self._counted[slots[new], cells[new]], self._observers[slots[new], cells[new]] = 0, observer
            room[new] = True
            # What counts of those that find no room is put down to the one that tells of most.
            others = np.flatnonzero(~room)
            slots[others] = packets[:, others].argmax(axis=0)
        own, here = (slots, every), (slots, cells)
        packets[own] += np.where(room, told, 0)
        lapsed[own] &= ~room
        self._packets[here] = packets[own]
        self._seen[here] = np.where(room, now, self._seen[here])

        counted = np.take(self._counted[used], cells, axis=1)
        believed = packets <= LEAD * np.where(room, packets[own], np.inf)
        most = np.where(believed & ~lapsed, packets, 0).max(axis=0)
        total = np.where(believed, counted, 0).sum(axis=0)
        gone = believed & lapsed & (packets > 0)
        outlasted = np.flatnonzero(gone.any(axis=0))
        if len(outlasted):
            cut = np.where(gone, np.minimum(packets, most), packets)[:, outlasted]
            kept = np.minimum(most / np.maximum(total, 1), 1)
            self._packets[used, cells[outlasted]] = cut
            self._counted[used, cells[outlasted]] = np.where(believed, counted * kept, counted)[:, outlasted]
            total[outlasted] *= kept[outlasted]
        more: Probabilities = np.clip(most - total, 0, told)
        self._counted[here] += more
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
