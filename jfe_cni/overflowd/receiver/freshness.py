"""Each notice once, and only while it is news. Pure."""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import Notice

OLDEST: Microseconds = 86_400 * 1_000_000
"""A day: a sender whose receiver was away tries again for less."""

AHEAD: Microseconds = 2 * 3_600 * 1_000_000
"""Clocks that are set to the wrong time zone's hour are common, and no reason to hear nothing."""

MOST_REMEMBERED = 65_536
"""Notices of one reporter."""


class Stale(StrEnum):
    """Why a notice that is rightly signed is not taken in."""

    TOO_OLD = "too-old"
    FROM_THE_FUTURE = "from-the-future"
    REPLAYED = "replayed"


class Freshness:
    """Of one reporter, that is, of one key that is believed: who floods makes nobody deaf but for itself. Remembers
    which notices came, by nonce and end, as long as they would be taken, and `most` of them: the store knows the
    others, and keeps nothing twice. `forgotten`: when the youngest of those was made that the store has no more."""

    def __init__(self, most: int = MOST_REMEMBERED, forgotten: Microseconds = 0) -> None:
        self._most = most
        self._seen: OrderedDict[tuple[str, str], Microseconds] = OrderedDict()
        self._forgotten = forgotten

    def take(self, notice: Notice, now: Microseconds) -> Stale | None:
        """None: it is taken, unless the store knows better."""
        if notice.made > now + AHEAD:
            return Stale.FROM_THE_FUTURE
        if notice.made <= max(now - OLDEST, self._forgotten):
            return Stale.TOO_OLD
        name = (notice.nonce, notice.to.value)
        if name in self._seen:
            return Stale.REPLAYED
        self._seen[name] = notice.made
        self._forget(now)
        return None

    def untake(self, notice: Notice) -> None:
        """It was taken and could not be kept: it may come again."""
        self._seen.pop((notice.nonce, notice.to.value), None)

    def __len__(self) -> int:
        return len(self._seen)

    def _forget(self, now: Microseconds) -> None:
        # In the order in which they came.
        while self._seen:
            oldest, made = next(iter(self._seen.items()))
            if len(self._seen) <= self._most and made > now - OLDEST:
                return
            del self._seen[oldest]
