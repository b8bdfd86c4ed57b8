"""The floods that webhooks were told of, for as long as they go on: the store is told so, or whoever reads their end
alone would tell of them again."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.aggregation import MOST_FLOODS, QUIET, Flood
from jfe_cni.overflowd.receiver.kept import Announcement
from jfe_cni.overflowd.receiver.store import Store

# How often the store is told: well within the time after which it would be another.
_COARSELY: Microseconds = QUIET // 3


@dataclass
class _Told:
    """`flood`: not held, for what is shown no longer is let go. `written`: when its last notice was, as the store has
    it."""

    flood: weakref.ref[Flood]
    since: Microseconds
    written: Microseconds


class GoingOn:
    """Bounded: of `most`, those that were told of last."""

    def __init__(self, store: Store, most: int = MOST_FLOODS) -> None:
        self._store = store
        self._most = most
        self._told: dict[str, _Told] = {}

    def told(self, announcement: Announcement, flood: Flood) -> None:
        """A webhook was, by this replica or another."""
        former = self._told.pop(announcement.name, None)
        same = former is not None and former.flood() is flood
        written = former.written if former is not None and same else 0
        self._told[announcement.name] = _Told(weakref.ref(flood), announcement.since, written)
        if len(self._told) > self._most:
            del self._told[next(iter(self._told))]

    async def write(self, now: Microseconds) -> None:
        """Raises StoreError."""
        going = []
        for name, told in list(self._told.items()):
            flood = told.flood()
            if flood is None or now > flood.last + QUIET:
                del self._told[name]
            elif flood.last > told.written + _COARSELY:
                going.append(Announcement(name, told.since, flood.last))
        if going:
            await self._store.go_on(going)
            for each in going:
                if each.name in self._told:
                    self._told[each.name].written = each.last

    def __len__(self) -> int:
        return len(self._told)
