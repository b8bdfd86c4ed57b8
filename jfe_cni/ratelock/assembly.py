"""The service as the settings say: store, keys and threads, opened in order and closed in the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from jfe_cni.ratelock import root
from jfe_cni.ratelock.keys import open_key
from jfe_cni.ratelock.sealing import Sealing
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.settings import Settings
from jfe_cni.ratelock.store import Store
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.walliam.accounts import accounts
from jfe_cni.ratelock.walliam.wall import Wall


@dataclass(frozen=True)
class Assembled:
    service: Ratelock
    store: Store
    sealing: Sealing

    async def ready(self) -> None:
        """What every attempt needs: the store is written to, and what is sealed opens. Raises StoreError,
        SealingError."""
        await self.store.ready()
        await root.load(self.store, self.sealing)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Assembled]:
    """Raises RequestError: a URL or key of another kind; StoreError; SealingError."""
    former = [open_key(each.strip()) for each in settings.former_keys.split(",") if each.strip()]
    sealing = Sealing(open_key(settings.key), former)
    cost = Cost(settings.password_memory, settings.password_iterations, settings.password_lanes)
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(settings.store, trusted_absence=round(settings.trusted_absence * 1e6))
        stack.push_async_callback(store.close)
        hashing = Hashing(settings.password_threads, settings.password_waiting)
        stack.callback(hashing.close)
        elsewhere = Wall(accounts(settings.walliam), hashing) if settings.walliam else None
        service = await Ratelock.open(
            store, sealing, hashing, cost=cost, tell_budget=settings.tell_budget, elsewhere=elsewhere
        )
        yield Assembled(service, store, sealing)
