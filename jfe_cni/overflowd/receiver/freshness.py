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
    which notices came, by nonce and end, as long as they would be taken. `most`: of them; where there are more, none is
    taken that is older than what had to be forgotten. `forgotten`: when the youngest of those was made, of an earlier
    run. `backed`: what is forgotten for want of room is known elsewhere, and may be taken here."""

    def __init__(self, most: int = MOST_REMEMBERED, forgotten: Microseconds = 0, *, backed: bool = False) -> None:
        self._most = most
        self._backed = backed
        self._seen: OrderedDict[tuple[str, str], Microseconds] = OrderedDict()
        self._forgotten = forgotten

    def take(self, notice: Notice, now: Microseconds) -> Stale | None:
        """None: it is taken."""
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
        while self._seen:
            oldest, made = next(iter(self._seen.items()))
            if len(self._seen) <= self._most and made > now - OLDEST:
                return
            del self._seen[oldest]
            # They are in the order in which they came. What is forgotten for its age is refused for it; what is
            # forgotten for want of room must be remembered as a time.
            if made > now - OLDEST and not self._backed:
                self._forgotten = max(self._forgotten, made)
