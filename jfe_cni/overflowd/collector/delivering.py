"""Delivery beside a collector, opened anew with the keys as they are now when they are said to have been rotated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.delivery import open_delivery
from jfe_cni.overflowd.delivery.outbox import Outbox
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import Notice


class Reopening(JfeError):
    """It is closed for a moment."""

    temporary = True


class Delivering:
    """Made by `delivering`. `registry`: what is counted of the delivery since it was opened last."""

    def __init__(self, settings: DeliverySettings, key_file: Path) -> None:
        self.registry = CollectorRegistry()
        self._settings = settings
        self._key_file = key_file
        self._outbox: Outbox | None = None
        self._opened = asyncio.Event()
        self._rotated = asyncio.Event()

    async def put(self, notices: Sequence[Notice]) -> None:
        """Durable when it returns. Raises StoreError, Reopening: not now."""
        if self._outbox is None:
            raise Reopening("the outbox is opened anew", "wait")
        await self._outbox.put(notices)

    def rotate(self) -> None:
        """The keys have been rotated: from now on the new one signs."""
        self._rotated.set()

    async def run(self) -> None:
        """Until it is cancelled: then what is under way is finished or accounted for. Raises JfeError: what waiting
        doesn't mend."""
        while True:
            self._rotated.clear()
            ring = await asyncio.to_thread(keys.read_or_make, self._key_file)
            registry = CollectorRegistry()
            async with open_delivery(self._settings, ring, registry) as delivery:
                self.registry, self._outbox = registry, delivery.outbox
                self._opened.set()
                courier = asyncio.create_task(delivery.courier.run())
                rotated = asyncio.create_task(self._rotated.wait())
                try:
                    await asyncio.wait((courier, rotated), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._outbox = None
                    rotated.cancel()
                    courier.cancel()
                    # What it raises itself is raised here.
                    with contextlib.suppress(asyncio.CancelledError):
                        await courier

    async def opened(self) -> None:
        await self._opened.wait()


@contextlib.asynccontextmanager
async def delivering(settings: DeliverySettings, key_file: Path, ended: asyncio.Event) -> AsyncIterator[Delivering]:
    """Within, once it is open; on the way out, what is under way may end. `ended` is set where it ends by itself, and
    what it raised is raised on the way out. Raises JfeError: it can't be opened."""
    made = Delivering(settings, key_file)
    task = asyncio.create_task(made.run())
    opened = asyncio.create_task(made.opened())
    try:
        await asyncio.wait((task, opened), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        task.add_done_callback(lambda _: ended.set())
        yield made
    finally:
        opened.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
