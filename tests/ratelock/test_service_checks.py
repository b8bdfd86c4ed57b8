"""Checking passwords: counted before anything is known, and a name that nobody has is like any other."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.faults import BudgetSpent, KeyReusedError, Overloaded, SealingError
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets import password
from jfe_cni.ratelock.secrets.password import Cost, cost_of
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import Store
from tests.ratelock.services import CALLER, CHEAP, KEY, OWNER, logged, service_on, store_at

RIGHT, WRONG = b"correct horse", b"battery staple"
PLENTY = Budget((Limit(1000, 1_000_000),))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Ratelock]:
    async with service_on(store) as service:
        await service.add_password(OWNER, "alice", RIGHT)
        yield service


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[Cost]:
    """What each run of Argon2 cost."""
    seen: list[Cost] = []

    class Counted:
        def __call__(self, **named: Any) -> Argon2id:
            seen.append(Cost(named["memory_cost"], named["iterations"], named["lanes"]))
            return Argon2id(**named)

        def verify_phc_encoded(self, given: bytes, phc: str, secret: bytes | None = None) -> None:
            seen.append(cost_of(phc.encode()))
            Argon2id.verify_phc_encoded(given, phc, secret=secret)

    monkeypatch.setattr(password, "Argon2id", Counted())
    return seen


async def attempts(store: Store) -> int:
    return len([entry for entry in await logged(store) if entry.actor == CALLER.identity])


async def spend(service: Ratelock, name: str, times: int = 3) -> list[bool]:
    return [await service.check(CALLER, name, WRONG) for _ in range(times)]


async def test_as_in_2016_true_three_times_and_then_come_again(service: Ratelock) -> None:
    assert [await service.check(CALLER, "alice", RIGHT) for _ in range(3)] == [True, True, True]
    with pytest.raises(BudgetSpent) as refused:
        await service.check(CALLER, "alice", RIGHT)
    assert refused.value.meter == Meter("secret", "alice")
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 10
    assert str(refused.value).startswith("budget spent: of secret alice, 3 in 10 s: come again in ")


async def test_wrong_passwords_are_counted_as_right_ones_are(service: Ratelock) -> None:
    assert await spend(service, "alice") == [False, False, False]
    with pytest.raises(BudgetSpent):
        await service.check(CALLER, "alice", RIGHT)


async def test_a_name_that_nobody_has_is_answered_and_refused_like_any_other(service: Ratelock) -> None:
    assert await spend(service, "nobody") == [False, False, False]
    with pytest.raises(BudgetSpent) as refused:
        await service.check(CALLER, "nobody", WRONG)
    assert str(refused.value).startswith("budget spent: of secret nobody, 3 in 10 s")


async def test_a_name_that_nobody_has_costs_what_a_wrong_password_costs(
    service: Ratelock, store: Store, derivations: list[Cost]
) -> None:
    await service.add_record(OWNER, "card", {"number": "4111"})
    for name in ("alice", "nobody", "card"):
        before = await attempts(store)
        derivations.clear()
        assert await service.check(CALLER, name, WRONG) is False
        assert derivations == [CHEAP], name
        assert await attempts(store) == before + 1, name


async def test_an_untold_budget_is_answered_as_a_wrong_password_is(store: Store, derivations: list[Cost]) -> None:
    async with service_on(store, tell_budget=False) as service:
        await service.add_password(OWNER, "alice", RIGHT)
        assert [await service.check(CALLER, "alice", RIGHT) for _ in range(3)] == [True, True, True]
        derivations.clear()
        assert await service.check(CALLER, "alice", RIGHT) is False
        assert derivations == [CHEAP]


async def test_exactly_three_of_many_at_once(service: Ratelock) -> None:
    answers = await asyncio.gather(*(service.check(CALLER, "alice", RIGHT) for _ in range(64)), return_exceptions=True)
    assert sum(answer is True for answer in answers) == 3
    assert sum(isinstance(answer, BudgetSpent) for answer in answers) == 61


@pytest.mark.parametrize(
    "meter", [Meter("all"), Meter("caller", "shop"), Meter("class", "staff"), Meter("secret", "carol")]
)
async def test_every_meter_is_charged(service: Ratelock, meter: Meter) -> None:
    await service.add_password(OWNER, "carol", RIGHT, "staff")
    await service.set_budget(OWNER, meter, Budget((Limit(1, 3_600_000_000),)))
    await service.check(CALLER, "carol", RIGHT)
    with pytest.raises(BudgetSpent) as refused:
        await service.check(CALLER, "carol", RIGHT)
    assert refused.value.meter == meter


async def test_an_attempt_is_counted_before_the_secret_is_opened(
    service: Ratelock, store: Store, tmp_path: Path
) -> None:
    stored = await store.secret("alice")
    assert stored is not None
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("UPDATE secrets SET sealed = ? WHERE name = 'alice'", (stored.sealed[:-1] + b"\0",))
    for _ in range(3):
        with pytest.raises(SealingError):
            await service.check(CALLER, "alice", RIGHT)
    with pytest.raises(BudgetSpent):
        await service.check(CALLER, "alice", RIGHT)


async def test_one_password_is_not_checked_by_another_secrets_hash(
    service: Ratelock, store: Store, tmp_path: Path
) -> None:
    await service.add_password(OWNER, "mallory", b"known to mallory")
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'mallory')")
    assert await service.check(CALLER, "mallory", b"known to mallory") is True
    with pytest.raises(SealingError, match="alice"):
        await service.check(CALLER, "alice", b"known to mallory")


async def test_a_request_that_is_tried_again_is_not_a_second_attempt(service: Ratelock, store: Store) -> None:
    for _ in range(5):
        assert await service.check(CALLER, "alice", RIGHT, idempotency_key="k1") is True
    assert await attempts(store) == 1
    with pytest.raises(KeyReusedError):
        await service.check(CALLER, "alice", WRONG, idempotency_key="k1")
    with pytest.raises(KeyReusedError):
        await service.check(CALLER, "bob", RIGHT, idempotency_key="k1")
    with pytest.raises(RequestError, match="malformed"):
        await service.check(CALLER, "alice", RIGHT, idempotency_key="k 1")


async def test_what_is_kept_of_a_request_is_nothing_to_try_passwords_on(tmp_path: Path) -> None:
    kept = set()
    for number in range(2):
        path = tmp_path / f"{number}.db"
        async with store_at(path) as store, service_on(store) as service:
            await service.check(CALLER, "alice", RIGHT, idempotency_key="k1")
        with sqlite3.connect(path) as database:
            kept.update(database.execute("SELECT digest FROM idempotency").fetchall())
    # Of the same request in two stores: what it hangs on is not to be had from the request.
    assert [len(digest) for (digest,) in kept] == [32, 32]


async def test_two_replicas_digest_a_request_alike(service: Ratelock, store: Store) -> None:
    assert await service.check(CALLER, "alice", RIGHT, idempotency_key="k1") is True
    async with service_on(store) as replica:
        assert await replica.check(CALLER, "alice", RIGHT, idempotency_key="k1") is True
    assert await attempts(store) == 1


async def test_what_another_replica_changes_holds_from_the_next_attempt_on(
    service: Ratelock, store: Store, tmp_path: Path
) -> None:
    other = b"Tr0ub4dor"
    async with store_at(tmp_path / "store.db") as second, service_on(second) as replica:
        for each in (service, replica):
            await each.set_budget(OWNER, Meter("secret", "alice"), PLENTY)
            await each.set_budget(OWNER, Meter("secret", "bob"), PLENTY)
            assert await each.check(CALLER, "alice", RIGHT) is True
            assert await each.check(CALLER, "bob", RIGHT) is False
        await replica.add_password(OWNER, "alice", other, replace=True)
        await service.add_password(OWNER, "bob", other, "staff")
        for each in (service, replica):
            assert [await each.check(CALLER, "alice", given) for given in (RIGHT, other)] == [False, True]
            assert await each.check(CALLER, "bob", other) is True
        await replica.set_budget(OWNER, Meter("class", "staff"), Budget((Limit(1, 3_600_000_000),)))
        assert await service.check(CALLER, "bob", other) is True
        for each in (service, replica):
            with pytest.raises(BudgetSpent, match="of class staff"):
                await each.check(CALLER, "bob", other)
        await replica.remove(OWNER, "alice")
        assert await service.check(CALLER, "alice", other) is False


async def test_a_right_password_is_hashed_anew_when_the_cost_rises(service: Ratelock, store: Store) -> None:
    await service.set_budget(OWNER, Meter("secret", "alice"), PLENTY)
    dearer = Cost(memory=128, iterations=2, lanes=1)

    async def cost() -> Cost:
        stored = await store.secret("alice")
        assert stored is not None
        return cost_of(await Sealing(KEY).open(stored.sealed, Label("alice", "password", stored.version)))

    async with service_on(store, cost=dearer) as replica:
        assert await replica.check(CALLER, "alice", WRONG) is False
        assert await cost() == CHEAP
        assert await replica.check(CALLER, "alice", RIGHT) is True
        assert await cost() == dearer
        assert await replica.check(CALLER, "alice", RIGHT) is True
    # Nor does the one that still hashes cheaply undo it.
    assert await service.check(CALLER, "alice", RIGHT) is True
    assert await cost() == dearer


async def test_where_nobody_may_wait_any_more_nothing_is_counted(store: Store) -> None:
    async with service_on(store, at_once=1, waiting=0) as service:
        await service.add_password(OWNER, "alice", RIGHT)
        answers = await asyncio.gather(
            *(service.check(CALLER, "alice", RIGHT) for _ in range(8)), return_exceptions=True
        )
        assert [answer for answer in answers if answer is True] == [True]
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 7
        assert await attempts(store) == 1


async def test_a_password_of_when_it_cost_less_costs_no_less_than_a_name_that_nobody_has(
    service: Ratelock, store: Store, derivations: list[Cost]
) -> None:
    for dearer in (Cost(memory=64, iterations=5, lanes=1), Cost(memory=256, iterations=3, lanes=2)):
        async with service_on(store, cost=dearer) as replica:
            work = []
            for name in ("alice", "nobody"):
                derivations.clear()
                assert await replica.check(CALLER, name, WRONG) is False
                work.append(sum(cost.work for cost in derivations))
        assert work[1] == dearer.work
        assert abs(work[0] - work[1]) <= CHEAP.work


@pytest.mark.parametrize("name", ["", "~root", "~decoy-check", "a b", "a\nb", "a" * 256, "'; DROP TABLE secrets; --"])
async def test_a_name_that_nobody_can_have_is_refused_uncounted(service: Ratelock, store: Store, name: str) -> None:
    with pytest.raises(RequestError, match="a secret can't be called"):
        await service.check(CALLER, name, RIGHT)
    assert await attempts(store) == 0


async def test_a_password_that_is_too_long_is_refused_uncounted(service: Ratelock, store: Store) -> None:
    with pytest.raises(RequestError, match="1025 bytes"):
        await service.check(CALLER, "alice", bytes(1025))
    assert await attempts(store) == 0
