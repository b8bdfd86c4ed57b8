"""The time of a server that tells it in whole seconds: the Date of its answers (RFC 9110, section 6.6.1).

An answer says that the server's clock stood between its Date and a second later at some time between request and
answer. This machine's CLOCK_BOOTTIME carries both bounds on, and each answer may narrow them; the wall clock counts for
nothing. The time between the bounds is not known: an attempt is decided on at the earlier bound and remembered at the
later one, so that two attempts are never taken to be farther apart than they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from jfe_cni.ratelock.budgets import Microseconds

SECOND: Microseconds = 1_000_000
# What CLOCK_BOOTTIME may be wrong by, in each unit that passes: adjtimex(2) slews by at most 500 in a million, and a
# crystal that is off by as much again is broken.
_DRIFT = 1e-3


@dataclass(frozen=True)
class _Bound:
    server: Microseconds
    local: Microseconds


def boottime() -> Microseconds:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class ServerDates:
    """`local`: a clock that is never set. Threads may share it: an answer that two of them forget leaves the bounds
    wider, never wrong."""

    def __init__(self, local: Callable[[], Microseconds] = boottime) -> None:
        self.local = local
        self._earliest: _Bound | None = None
        self._latest: _Bound | None = None

    def observe(self, date: Microseconds, sent: Microseconds, received: Microseconds) -> None:
        """`sent`, `received`: when the request was begun and its answer read, by `local`."""
        earliest, latest = self._earliest, self._latest
        if earliest is None or date > _carried(earliest, received, 1 - _DRIFT):
            self._earliest = _Bound(date, received)
        narrows = latest is None or date + SECOND < _carried(latest, sent, 1 + _DRIFT)
        # A server's clock that was set forward puts the old bound in the past.
        if narrows or latest is None or date > _carried(latest, received, 1 + _DRIFT):
            self._latest = _Bound(date + SECOND, sent)

    @property
    def known(self) -> bool:
        return self._earliest is not None

    def now(self) -> tuple[Microseconds, Microseconds]:
        """The earlier bound, and how much later the time may be. Something was observed."""
        assert self._earliest is not None
        assert self._latest is not None
        at = self.local()
        earliest = _carried(self._earliest, at, 1 - _DRIFT)
        return earliest, max(0, _carried(self._latest, at, 1 + _DRIFT) - earliest)


def _carried(bound: _Bound, local: Microseconds, rate: float) -> Microseconds:
    return bound.server + int((local - bound.local) * rate)


def parsed(date: str) -> Microseconds:
    """Of a Date field. Raises ValueError."""
    at = parsedate_to_datetime(date)
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp()) * SECOND
