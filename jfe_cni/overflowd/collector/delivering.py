"""Delivery beside a collector, by the keys as they are in their file when they are said to have been rotated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from jfe_cni.errors import IdentityError
from jfe_cni.overflowd.delivery import Delivery, open_delivery
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.structured_log import fields


class Delivering:
    """Made by `delivering`. `registry`: what is counted of it. `rotated`: set when the keys have been rotated:
    from then on the new one signs."""

    def __init__(self, delivery: Delivery, key_file: Path, registry: CollectorRegistry, rotated: asyncio.Event) -> None:
        self.registry = registry
        self._delivery = delivery
        self._key_file = key_file
        self._rotated = rotated
        self._log = logging.getLogger(__name__)

    async def put(self, notices: Sequence[Notice]) -> None:
        """Durable when it returns. Raises StoreError: not now."""
        await self._delivery.outbox.put(notices)

    async def run(self) -> None:
        """Until it is cancelled: then what is under way is finished or accounted for. Raises JfeError: what waiting
        doesn't mend."""
        both = [asyncio.create_task(self._delivery.courier.run()), asyncio.create_task(self._sign_by_rotated())]
        try:
            # Neither ends by itself but by what it raises.
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _sign_by_rotated(self) -> None:
        while True:
            await self._rotated.wait()
            self._rotated.clear()
            try:
                ring = await asyncio.to_thread(keys.read_or_make, self._key_file)
            except IdentityError as error:
                # The one before signs on.
                self._log.error("keys refused", extra=fields(reason=str(error)))
                continue
            self._delivery.courier.sign_by(ring)
            self._log.info("keys taken into use", extra=fields(key=ring.signing.thumbprint()))


@contextlib.asynccontextmanager
async def delivering(
    settings: DeliverySettings, key_file: Path, ended: asyncio.Event, rotated: asyncio.Event
) -> AsyncIterator[Delivering]:
    """Within; on the way out, what is under way may end. `ended` is set where it ends by itself, and what it raised is
    raised on the way out. Raises JfeError: it can't be opened."""
    registry = CollectorRegistry()
    ring = await asyncio.to_thread(keys.read_or_make, key_file)
    async with open_delivery(settings, ring, registry) as delivery:
        made = Delivering(delivery, key_file, registry, rotated)
        task = asyncio.create_task(made.run())
        task.add_done_callback(lambda _: ended.set())
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
