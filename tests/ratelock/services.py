"""A service on a SQLite file, quick: its passwords cost next to nothing. Who asks it, and what it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.keys.local import LocalKey
from jfe_cni.ratelock.sealing import Sealing
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import LogEntry, Store
from jfe_cni.ratelock.stores import open_store

KEY = LocalKey(bytes(range(32)))
CHEAP = Cost(memory=64, iterations=1, lanes=1)
OWNER = Caller("olga", "owner", None, ("*",))
CALLER = Caller("shop", "caller", None, ("*",))


@asynccontextmanager
async def store_of(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def store_at(path: Path) -> AsyncIterator[Store]:
    async with store_of(f"sqlite:///{path}") as store:
        yield store


@asynccontextmanager
async def service_on(
    store: Store,
    sealing: Sealing | None = None,
    *,
    cost: Cost = CHEAP,
    tell_budget: bool = True,
    at_once: int = 2,
    waiting: int = 256,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Ratelock]:
    hashing = Hashing(at_once, waiting)
    try:
        yield await Ratelock.open(
            store, sealing or Sealing(KEY), hashing, cost=cost, tell_budget=tell_budget, clock=clock
        )
    finally:
        hashing.close()


@asynccontextmanager
async def service_at(path: Path) -> AsyncIterator[Ratelock]:
    async with store_at(path) as store, service_on(store) as service:
        yield service


async def logged(store: Store) -> list[LogEntry]:
    return [entry async for entry in store.entries()]
