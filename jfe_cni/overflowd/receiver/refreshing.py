"""Looks from time to time whether what is believed of a reporter is still what it publishes: a key that it has
withdrawn, for it was stolen perhaps, would be believed for ever otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.key_fetching import LARGEST, KeyFetcher, Unfetched
from jfe_cni.overflowd.receiver.limits import Buckets, Limit
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.pins import MOST_REPORTERS, Publisher
from jfe_cni.overflowd.receiver.store import Store

AGAIN: Microseconds = 86_400 * 1_000_000
"""At most, since the last look, until the next at a reporter that was heard of since."""

RETRY: Microseconds = 15 * 60 * 1_000_000
"""After a look that failed; twice as long after each that follows it."""

LONGEST_RETRY: Microseconds = 4 * 3_600 * 1_000_000
# As many as make the longest.
_MOST_FAILED = (LONGEST_RETRY // RETRY).bit_length()

LOOKS = Limit(12, 60 * 1_000_000)
"""Of those that are fetched in all (`key_fetching.IN_ALL`): after a start there are some left for who is new."""

_TOGETHER = 2
# Seconds between two looks for who is due, of whom nothing need be heard.
_PAUSE = 5.0


@dataclass
class _Due:
    """`at`: by the clock that is never set. `failed`: how often, unless the look that is under way is not."""

    of: Publisher
    at: Microseconds
    failed: int = 0


class Refreshing:
    """For one event loop. `monotonic`: a clock that is never set. Whoever makes it look holds a key that is believed,
    and it looks at that one's own domain: nothing that came pays for it."""

    def __init__(
        self,
        believed: Believed,
        fetcher: KeyFetcher,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], Microseconds],
        monotonic: Callable[[], Microseconds],
        complaints: Complaints,
    ) -> None:
        self._believed = believed
        self._fetcher = fetcher
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._complaints = complaints
        self._looks = Buckets[None](LOOKS, 1)
        self._woken = asyncio.Event()
        # Of those that were heard of since they were looked at.
        self._due: OrderedDict[str, _Due] = OrderedDict()

    def heard(self, of: Publisher) -> None:
        """A notice of it was kept."""
        if of.domain not in self._due:
            self._put(of)
        now, due = self._monotonic(), self._due.get(of.domain)
        if due is not None and due.at <= now and self._looks.has(None, now):
            self._woken.set()

    def _put(self, of: Publisher) -> None:
        looked = self._believed.looked(of.domain)
        if looked is None:
            return
        age = self._clock() - looked
        # Spread, or all that were heard of first after a start would be asked at one time for ever.
        left = AGAIN // 2 + secrets.randbelow(AGAIN // 2) - age
        # A clock that was set back tells nothing of how long ago that was.
        self._due[of.domain] = _Due(of, self._monotonic() + (max(left, 0) if age >= 0 else 0))
        if len(self._due) > MOST_REPORTERS:
            self._due.popitem(last=False)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._woken.wait()
            self._woken.clear()
            while chosen := self._choose():
                await asyncio.gather(*(self._look(each) for each in chosen))

    def _choose(self) -> list[_Due]:
        """Those that may be looked at now."""
        now, chosen = self._monotonic(), list[_Due]()
        for each in self._due.values():
            if each.at <= now and len(chosen) < _TOGETHER and self._looks.take(None, now):
                chosen.append(each)
        for each in chosen:
            each.at = now + min(RETRY << each.failed, LONGEST_RETRY)
            each.failed = min(each.failed + 1, _MOST_FAILED)
        return chosen

    async def _look(self, due: _Due) -> None:
        domain = due.of.domain
        over = self._believed.looked(domain) is None or await self._is_seen(due.of)
        # Unless it was put in anew meanwhile, there being no room for all.
        if over and self._due.get(domain) is due:
            del self._due[domain]

    async def _is_seen(self, of: Publisher) -> bool:
        """What it publishes, and taken into use."""
        fetched = await self._fetcher.fetch(of, lambda _least: LARGEST)
        self._metrics.fetched(fetched.keys)
        if isinstance(fetched.keys, Unfetched):
            return False
        try:
            outcome, pins = await self._store.pin(of.domain, fetched.keys, self._clock())
        except JfeError as error:
            self._complaints.complain(f"what {of.domain} publishes now is not known: {error}")
            return False
        self._metrics.pinned(outcome)
        self._believed.put(of.domain, pins)
        return True
