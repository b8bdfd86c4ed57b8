"""What every store gives with an attempt that it counted: the secret, as it is in the same transaction."""

from __future__ import annotations

import asyncio

import pytest

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.store import Admitted, OwnerAct, Spent, Store, StoredSecret
from tests.ratelock.attempts import attempt

ACT = OwnerAct("owner", "secret changed", "alice")
FIRST = StoredSecret("alice", "password", "", b"\x00sealed\xff", None, 1)
SECOND = StoredSecret("alice", "password", "staff", b"sealed anew", None, 2)


async def given(store: Store, name: str, key: str | None = None) -> StoredSecret | None:
    verdict = await store.admit(attempt(name, "bob", key, b"digest"))
    assert isinstance(verdict, Admitted)
    return verdict.secret


@pytest.fixture(autouse=True)
async def plenty(store: Store) -> None:
    await store.set_budget(Meter("secret", "alice"), Budget((Limit(1000, 1_000_000),)), ACT)


async def test_an_attempt_is_answered_with_the_secret_as_it_is_now(store: Store) -> None:
    assert await given(store, "alice") is None
    await store.put_secret(FIRST, ACT, expected_version=None)
    assert [await given(store, "alice") for _ in range(2)] == [FIRST, FIRST]
    await store.put_secret(SECOND, ACT, expected_version=1)
    assert [await given(store, "alice") for _ in range(2)] == [SECOND, SECOND]
    kept = await store.secret("alice")
    assert kept is not None
    assert await store.reseal("alice", b"by another key", expected_version=2, changed=kept.changed)
    assert await given(store, "alice") == await store.secret("alice") != SECOND
    await store.remove_secret("alice", ACT)
    assert await given(store, "alice") is None


async def test_a_repeated_request_is_answered_with_it_too(store: Store) -> None:
    await store.put_secret(FIRST, ACT, expected_version=None)
    assert [await given(store, "alice", "key-1") for _ in range(2)] == [FIRST, FIRST]


async def test_of_many_at_once_each_is_answered_with_its_own(store: Store) -> None:
    await store.put_secret(FIRST, ACT, expected_version=None)
    names = ["alice" if number % 2 else f"nobody{number}" for number in range(50)]
    answers = await asyncio.gather(*(given(store, name) for name in names))
    assert answers == [FIRST if name == "alice" else None for name in names]


async def test_the_class_is_charged_that_the_secret_has_now(store: Store) -> None:
    await store.set_budget(Meter("class", "staff"), Budget((Limit(1, 3_600_000_000),)), ACT)
    await store.put_secret(FIRST, ACT, expected_version=None)
    assert [await given(store, "alice") for _ in range(3)] == [FIRST] * 3
    await store.put_secret(SECOND, ACT, expected_version=1)
    assert await given(store, "alice") == SECOND
    refused = await store.admit(attempt("alice"))
    assert isinstance(refused, Spent)
    assert refused.meter == Meter("class", "staff")
