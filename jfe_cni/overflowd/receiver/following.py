"""Follows what is kept, by this replica and by others, and makes of it what is shown and told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.aggregation import Flood, Floods, Timeline
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.kept import Change
from jfe_cni.overflowd.receiver.store import Store

log = logging.getLogger("overflowd")

HISTORY: Microseconds = 86_400 * 1_000_000
"""What is shown after a start: a day, of the newest `MOST_READ` notices."""

MOST_READ = 50_000

# Seconds between two looks for what other replicas have taken.
_POLL = 1.0
MOST_READERS = 64


class Readers:
    """Who waits for what is new. Bounded."""

    def __init__(self, most: int = MOST_READERS) -> None:
        self.most = most
        self._waiting: set[asyncio.Event] = set()

    @contextlib.contextmanager
    def reading(self) -> Iterator[asyncio.Event | None]:
        """Set whenever there is news; None: as many read as may. Whoever has it clears it."""
        if len(self._waiting) >= self.most:
            yield None
            return
        news = asyncio.Event()
        self._waiting.add(news)
        try:
            yield news
        finally:
            self._waiting.discard(news)

    def tell(self) -> None:
        for each in self._waiting:
            each.set()

    def __len__(self) -> int:
        return len(self._waiting)


class Following:
    """`begun`: is told of each flood when it becomes remarkable. `changed`: of each domain whose keys are changed, when
    that is found, or was before this was started. For one event loop."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], Microseconds],
        begun: Callable[[Flood], None],
        changed: Callable[[Change], None],
        complaints: Complaints,
    ) -> None:
        self.floods, self.timeline, self.readers = Floods(), Timeline(), Readers()
        self._store = store
        self._clock = clock
        self._begun = begun
        self._changed = changed
        self._complaints = complaints
        self._changes: frozenset[Change] = frozenset()
        self._woken = asyncio.Event()
        self._number = 0

    def wake(self) -> None:
        """There is something new."""
        self._woken.set()

    async def catch_up(self) -> None:
        """Reads what was taken in `HISTORY`. Raises StoreError."""
        self._number = await self._store.before(self._clock() - HISTORY, MOST_READ)
        await self._read()
        await self._read_changes()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._read()
                await self._read_changes()
            except JfeError as error:
                self._complaints.complain(f"what was taken can't be read: {error}")

    async def _read(self) -> None:
        while page := await self._store.since(self._number):
            for kept in page:
                self._number = kept.number
                self.timeline.take(kept.taken, kept.notice.classified)
                flood = self.floods.take(kept.taken, kept.domain, kept.notice)
                if flood is not None:
                    self._begun(flood)
            self.readers.tell()

    async def _read_changes(self) -> None:
        changes = frozenset(await self._store.changes())
        for each in sorted(changes - self._changes, key=lambda change: change.domain):
            log.warning(
                "%s publishes none of the keys that it had: nothing is taken by %s; if it is right: --repin %s",
                each.domain,
                ", ".join(each.keys),
                each.domain,
            )
            self._changed(each)
        self._changes = changes
