"""Looks from time to time whether what is believed of a reporter is still what it publishes: a key that it has
withdrawn, for it was stolen perhaps, would be believed for ever otherwise."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.key_fetching import LARGEST, KeyFetcher, Unfetched
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.pins import MOST_REPORTERS, Publisher
from jfe_cni.overflowd.receiver.store import Store

log = logging.getLogger("overflowd")

AGAIN: Microseconds = 86_400 * 1_000_000
"""At most, from the first notice of a reporter, or since the last look, until the next."""


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
    ) -> None:
        self._believed = believed
        self._fetcher = fetcher
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._due: OrderedDict[str, Microseconds] = OrderedDict()
        self._looking: set[asyncio.Task[None]] = set()

    def heard(self, of: Publisher) -> None:
        """A notice of it was kept."""
        now = self._monotonic()
        due = self._due.get(of.domain)
        if due is not None and now < due:
            return
        # Spread, or all that are heard of after a start would be asked at one time.
        self._due[of.domain] = now + AGAIN // 2 + secrets.randbelow(AGAIN // 2)
        self._due.move_to_end(of.domain)
        if len(self._due) > MOST_REPORTERS:
            self._due.popitem(last=False)
        if due is not None:
            task = asyncio.create_task(self._look(of))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def _look(self, of: Publisher) -> None:
        fetched = await self._fetcher.fetch(of, lambda _least: LARGEST)
        self._metrics.fetched(fetched.keys)
        if isinstance(fetched.keys, Unfetched):
            return
        try:
            outcome, pins = await self._store.pin(of.domain, fetched.keys, self._clock())
        except JfeError as error:
            log.warning("what %s publishes now is not known: %s", of.domain, error)
            return
        self._metrics.pinned(outcome)
        self._believed.put(of.domain, pins)
