"""What is done to a store while the power is cut: each is one change, with all that belongs to it."""

from __future__ import annotations

import asyncio

from jfe_cni.ratelock.store import OwnerAct, Store, StoredSecret
from tests.ratelock.attempts import attempt, budget, secret


async def add(store: Store) -> None:
    kept = StoredSecret("alice", "password", "", b"sealed", None, 1)
    await store.put_secret(kept, OwnerAct("owner", "added", "alice"), expected_version=None)


async def remove(store: Store) -> None:
    await store.remove_secret("alice", OwnerAct("owner", "removed", "alice"))


async def set_budget(store: Store) -> None:
    await store.set_budget(secret("alice"), budget((2, 10)), OwnerAct("owner", "budget", "alice"))


async def attempts(store: Store) -> None:
    """In one batch: some are admitted, by their keys; the first is repeated; the others are refused."""
    asked = [attempt("alice", "bob", f"key-{n % 5}", b"digest") for n in range(9)]
    await asyncio.gather(*(store.admit(each) for each in asked))


DEEDS = (add, remove, set_budget, attempts)
