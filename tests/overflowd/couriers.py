"""A whole delivery for a test, on the loopback; run by itself, one that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from jfe_cni.overflowd.delivery import Delivery, open_delivery
from jfe_cni.overflowd.delivery.courier import PATIENCE
from jfe_cni.overflowd.delivery.database import open_database
from jfe_cni.overflowd.delivery.outcomes import ENDED
from jfe_cni.overflowd.delivery.schema import copies
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.notices import keys

RING = keys.KeyRing(keys.new_key())
Row = tuple[str, str | None, str | None]


def settings(state_url: str, folder: Path, **changed: Any) -> DeliverySettings:
    """To the loopback, whose addresses are told by decision."""
    wanted: dict[str, Any] = {
        "state": state_url,
        "budgets": f"sqlite:///{folder}/budgets.db",
        "send": True,
        "told": ("127.0.0.0/8",),
        "own": ("198.51.100.0/24",),
        "ways": ("udp",),
    }
    return DeliverySettings(**{**wanted, **changed})


@contextlib.asynccontextmanager
async def delivering(
    wanted: DeliverySettings,
    registry: CollectorRegistry | None = None,
    ring: keys.KeyRing = RING,
    patience: Sequence[float] = PATIENCE,
) -> AsyncIterator[tuple[Delivery, asyncio.Task[None]]]:
    """Whose courier runs."""
    async with open_delivery(wanted, ring, registry or CollectorRegistry(), patience) as delivery:
        running = asyncio.create_task(delivery.courier.run())
        try:
            yield delivery, running
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def rows(state_url: str) -> Sequence[Row]:
    """State, reason and way of each copy."""
    wanted = select(copies.c.state, copies.c.reason, copies.c.way).order_by(copies.c.id)
    async with open_database(state_url) as database:
        return [(row[0], row[1], row[2]) for row in await database.run(lambda each: each.execute(wanted).all())]


async def ended(state_url: str, count: int) -> Counter[Row]:
    """When so many copies have come to an end."""
    async with asyncio.timeout(60):
        while True:
            found = await rows(state_url)
            if sum(row[0] in ENDED for row in found) >= count:
                return Counter(found)
            await asyncio.sleep(0.05)


async def _main(given: dict[str, Any], key_file: Path) -> None:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    async with delivering(DeliverySettings(**given), ring=keys.read_or_make(key_file)) as (_, running):
        print("running", flush=True)
        await running


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1]), Path(sys.argv[2])))
