"""Each notice once, and only while it is news. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from enum import StrEnum

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.receiver.domains import registrable

OLDEST: Microseconds = 86_400 * 1_000_000
"""A day: a sender whose receiver was away tries again for less."""

AHEAD: Microseconds = 2 * 3_600 * 1_000_000
"""Clocks that are set to the wrong time zone's hour are common, and no reason to hear nothing."""

MOST_REMEMBERED = 262_144
"""Notices, in all: nine minutes of as many as are looked at, and some 50 MB. What is not remembered costs a look into
the store."""

MOST_OF_ONE = 32_768
"""Of those, of one domain that somebody has registered: by all its names, and all their keys."""

# Of a digest: chosen by nobody else, two notices have the same once in 2^64.
_DIGEST = 16
# Between two looks for what would be taken no more.
_SWEEP: Microseconds = 15 * 60 * 1_000_000


class Stale(StrEnum):
    """Why a notice that is rightly signed is not taken in."""

    TOO_OLD = "too-old"
    FROM_THE_FUTURE = "from-the-future"
    REPLAYED = "replayed"


class Remembered:
    """Which notices came, of all reporters, as long as they would be taken, by digests: however much each of them may
    write into its nonce, it has the room of one. Where there are too many, the oldest go of whichever domain has most:
    who floods makes nobody deaf but for itself. The store knows the others, and keeps nothing twice. `secret`: 16 to 64
    bytes, by which nobody knows what a digest will be."""

    def __init__(self, secret: bytes, most: int = MOST_REMEMBERED, of_one: int = MOST_OF_ONE) -> None:
        self._secret = secret
        self._most = most
        self._of_one = of_one
        # In the order in which they came; with when they were made.
        self._of: dict[str, OrderedDict[bytes, Microseconds]] = {}
        self._count = 0
        self._sweep_at: Microseconds = 0

    def take(self, domain: str, notice: Notice, now: Microseconds) -> bool:
        """False: it came before."""
        name, whose = self._digest(domain, notice), registrable(domain)
        # A clock that was set back sweeps at once.
        if not self._sweep_at - _SWEEP <= now < self._sweep_at:
            self._sweep(now)
        seen = self._of.setdefault(whose, OrderedDict())
        if name in seen:
            return False
        seen[name] = notice.made
        self._count += 1
        if len(seen) > self._of_one:
            self._drop_oldest(whose)
        elif self._count > self._most:
            self._drop_oldest(max(self._of, key=lambda each: len(self._of[each])))
        return True

    def untake(self, domain: str, notice: Notice) -> None:
        """It was taken and could not be kept: it may come again."""
        seen = self._of.get(registrable(domain))
        if seen is not None and seen.pop(self._digest(domain, notice), None) is not None:
            self._count -= 1

    def __len__(self) -> int:
        return self._count

    def _digest(self, domain: str, notice: Notice) -> bytes:
        # As the store knows one from another; neither a domain nor an end has a space in it.
        name = f"{domain} {notice.to} {notice.nonce}".encode()
        return hashlib.blake2b(name, digest_size=_DIGEST, key=self._secret).digest()

    def _sweep(self, now: Microseconds) -> None:
        self._sweep_at = now + _SWEEP
        for whose, seen in list(self._of.items()):
            while seen and next(iter(seen.values())) <= now - OLDEST:
                self._drop_oldest(whose)
            if not seen:
                del self._of[whose]

    def _drop_oldest(self, whose: str) -> None:
        self._of[whose].popitem(last=False)
        self._count -= 1


class Freshness:
    """Of one key that is believed, of that domain. `forgotten`: when the youngest of its notices was made that the
    store has no more."""

    def __init__(self, domain: str, remembered: Remembered, forgotten: Microseconds = 0) -> None:
        self._domain = domain
        self._remembered = remembered
        self._forgotten = forgotten

    def take(self, notice: Notice, now: Microseconds) -> Stale | None:
        """None: it is taken, unless the store knows better."""
        if notice.made > now + AHEAD:
            return Stale.FROM_THE_FUTURE
        if notice.made <= max(now - OLDEST, self._forgotten):
            return Stale.TOO_OLD
        return None if self._remembered.take(self._domain, notice, now) else Stale.REPLAYED
