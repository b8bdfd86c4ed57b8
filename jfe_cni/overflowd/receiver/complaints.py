"""What is said of a fault: when it begins, and once a minute how often it has been since. Whoever causes it by what is
sent fills no disk."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.limits import Buckets, Limit

_MINUTE: Microseconds = 60 * 1_000_000
OF_ONE = Limit(1, _MINUTE)
IN_ALL = Limit(20, _MINUTE)
"""Of faults whose words differ."""

_MOST_FAULTS = 64


class Complaints:
    def __init__(self, log: logging.Logger, monotonic: Callable[[], Microseconds]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._of_one = Buckets[str](OF_ONE, _MOST_FAULTS)
        self._in_all = Buckets[None](IN_ALL, 1)
        self._unsaid = 0

    def complain(self, words: str) -> None:
        """Or count it for the next time."""
        now = self._monotonic()
        if not (self._of_one.has(words, now) and self._in_all.take(None, now)):
            self._unsaid += 1
            return
        self._of_one.take(words, now)
        if self._unsaid:
            self._log.warning("%s (and %d more faults since one was told of)", words, self._unsaid)
        else:
            self._log.warning("%s", words)
        self._unsaid = 0
