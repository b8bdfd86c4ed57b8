"""Looks from time to time whether what is believed of a reporter is still what it publishes: a key that it has
withdrawn, for it was stolen perhaps, would be believed for ever otherwise."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.key_fetching import LARGEST, KeyFetcher, Unfetched
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.pins import MOST_REPORTERS, Publisher
from jfe_cni.overflowd.receiver.store import Store

AGAIN: Microseconds = 86_400 * 1_000_000
"""At most, since the last look, until the next at a reporter that was heard of since."""

RETRY: Microseconds = 15 * 60 * 1_000_000
"""After a look that failed; twice as long after each that follows it."""

LONGEST_RETRY: Microseconds = 4 * 3_600 * 1_000_000

# At one time, and seconds until the next: so that after a start there are fetches left for those who are new.
_TOGETHER = 2
_PAUSE = 5.0


@dataclass
class _Due:
    """`at`: by the clock that is never set. `failed`: how often, since it was looked at last."""

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
        # Of those that were heard of since they were looked at.
        self._due: OrderedDict[str, _Due] = OrderedDict()

    def heard(self, of: Publisher) -> None:
        """A notice of it was kept."""
        looked = self._believed.looked(of.domain)
        if of.domain in self._due or looked is None:
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
            now = self._monotonic()
            due = [each for each in self._due.values() if each.at <= now][:_TOGETHER]
            await asyncio.gather(*(self._look(each) for each in due))
            await asyncio.sleep(_PAUSE)

    async def _look(self, due: _Due) -> None:
        domain = due.of.domain
        if self._believed.looked(domain) is None or await self._is_seen(due.of):
            # Unless it was put in anew meanwhile, there being no room for all.
            if self._due.get(domain) is due:
                del self._due[domain]
            return
        due.at = self._monotonic() + min(RETRY << due.failed, LONGEST_RETRY)
        due.failed = min(due.failed + 1, 8)

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
