"""Attempts and budgets, in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.store import Admitted, Attempt, OwnerAct, Spent, Store, Verdict
from tests.ratelock.hands import SECOND

OWNER = OwnerAct("owner", "budget set", "")


def secret(name: str) -> Meter:
    return Meter("secret", name)


def attempt(name: str, caller: str = "bob", key: str | None = None, digest: bytes = b"", *more: Meter) -> Attempt:
    meters = (*more, Meter("all"), Meter("caller", caller), secret(name))
    return Attempt(caller, "check", name, meters, key, digest)


def budget(*limits: tuple[int, float], delay: float = 0) -> Budget:
    """(count, seconds) …"""
    return Budget(tuple(Limit(count, round(window * SECOND)) for count, window in limits), round(delay * SECOND))


async def admitted(store: Store, name: str, times: int) -> int:
    """How many of so many are."""
    return sum([isinstance(await store.admit(attempt(name)), Admitted) for _ in range(times)])


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """For what stores do by themselves; the test's own time limit ends it."""
    while not await condition():  # noqa: ASYNC110  # in a database, nothing tells it
        await asyncio.sleep(0.05)


def seconds_until_room(verdict: Verdict) -> float:
    assert isinstance(verdict, Spent), verdict
    return verdict.retry_after / SECOND
