"""Budgets, in every store."""

from __future__ import annotations

import asyncio

from jfe_cni.ratelock.budgets import DEFAULT, Limit, Meter
from jfe_cni.ratelock.store import Admitted, Spent, Store, StoredBudget
from tests.ratelock.attempts import OWNER, admitted, attempt, budget, seconds_until_room, secret
from tests.ratelock.hands import SECOND, Hands


async def test_three_in_ten_seconds_where_nobody_set_a_budget(store: Store, hands: Hands) -> None:
    assert await admitted(store, "alice", 1) == 1
    hands.go_on(4)
    assert await admitted(store, "alice", 5) == 2
    verdict = await store.admit(attempt("alice"))
    assert verdict == Spent(secret("alice"), Limit(3, 10 * SECOND), 6 * SECOND)
    hands.go_on(5.999999)
    assert await admitted(store, "alice", 1) == 0
    hands.go_on(0.000001)
    assert await admitted(store, "alice", 5) == 1, "the first has left the window, the two others have not"


async def test_each_secret_has_its_own(store: Store) -> None:
    assert await admitted(store, "alice", 4) == 3
    assert await admitted(store, "carol", 4) == 3


async def test_all_limits_hold_at_once(store: Store, hands: Hands) -> None:
    await store.set_budget(secret("alice"), budget((1, 1), (3, 100)), OWNER)
    for _ in range(3):
        assert await admitted(store, "alice", 2) == 1
        hands.go_on(1)
    verdict = await store.admit(attempt("alice"))
    assert isinstance(verdict, Spent)
    assert verdict.limit == Limit(3, 100 * SECOND)
    assert seconds_until_room(verdict) == 97


async def test_all_meters_hold_and_none_is_charged_where_one_refuses(store: Store, hands: Hands) -> None:
    await store.set_budget(Meter("all"), budget((4, 10)), OWNER)
    await store.set_budget(Meter("caller", "bob"), budget((100, 1000)), OWNER)
    assert await admitted(store, "alice", 3) == 3
    assert await admitted(store, "carol", 3) == 1
    verdict = await store.admit(attempt("carol"))
    assert isinstance(verdict, Spent)
    assert verdict.meter == Meter("all")
    hands.go_on(10)
    assert await admitted(store, "carol", 5) == 3, "what `all` refused was not charged to the secret"


async def test_a_class_is_charged_once_it_has_a_budget(store: Store) -> None:
    cards = Meter("class", "cards")

    async def ask(name: str) -> bool:
        return isinstance(await store.admit(attempt(name, "bob", None, b"", cards)), Admitted)

    assert await ask("one")
    await store.set_budget(cards, budget((2, 10)), OWNER)
    assert [await ask(name) for name in ("one", "two", "three")] == [True, True, False]


async def test_many_at_once_are_admitted_exactly(store: Store) -> None:
    await store.set_budget(secret("alice"), budget((40, 10)), OWNER)
    verdicts = await asyncio.gather(*(store.admit(attempt("alice", f"caller-{n}")) for n in range(600)))
    numbers = [verdict.number for verdict in verdicts if isinstance(verdict, Admitted)]
    assert len(numbers) == len(set(numbers)) == 40


async def test_tightening_holds_at_once(store: Store) -> None:
    await store.set_budget(secret("alice"), budget((10, 10), delay=60), OWNER)
    assert await admitted(store, "alice", 2) == 2
    assert await store.set_budget(secret("alice"), budget((2, 10), delay=60), OWNER) == StoredBudget(
        secret("alice"), budget((2, 10), delay=60)
    )
    assert await admitted(store, "alice", 1) == 0


async def test_loosening_waits_as_long_as_the_former_budget_says(store: Store, hands: Hands) -> None:
    await store.set_budget(secret("alice"), budget((1, 1000), delay=60), OWNER)
    pending = await store.set_budget(secret("alice"), budget((5, 1000)), OWNER)
    assert pending == await store.budget(secret("alice"))
    assert pending == StoredBudget(
        secret("alice"), budget((1, 1000), delay=60), budget((5, 1000)), await store.now() + 60 * SECOND
    )
    assert await admitted(store, "alice", 2) == 1
    hands.go_on(59.999999)
    assert await admitted(store, "alice", 1) == 0
    hands.go_on(0.000001)
    assert await store.budget(secret("alice")) == StoredBudget(secret("alice"), budget((5, 1000)))
    assert await admitted(store, "alice", 6) == 4, "what was admitted before counts"


async def test_a_shorter_delay_is_a_loosening(store: Store) -> None:
    await store.set_budget(secret("alice"), budget((1, 10), delay=60), OWNER)
    changed = await store.set_budget(secret("alice"), budget((1, 10), delay=0), OWNER)
    assert changed is not None
    assert changed.budget == budget((1, 10), delay=60)


async def test_a_removal_waits_too_and_then_the_default_holds(store: Store, hands: Hands) -> None:
    await store.set_budget(secret("alice"), budget((1, 1000), delay=60), OWNER)
    removal = await store.set_budget(secret("alice"), None, OWNER)
    assert removal is not None
    assert (removal.pending, removal.pending_from) == (None, await store.now() + 60 * SECOND)
    assert await admitted(store, "alice", 2) == 1
    hands.go_on(60)
    assert await store.budget(secret("alice")) is None
    assert await store.budgets() == []
    assert await admitted(store, "alice", 9) == DEFAULT.most


async def test_the_last_word_replaces_a_change_that_was_pending(store: Store, hands: Hands) -> None:
    await store.set_budget(secret("alice"), budget((2, 10), delay=60), OWNER)
    await store.set_budget(secret("alice"), budget((9, 10)), OWNER)
    await store.set_budget(secret("alice"), budget((1, 10), delay=60), OWNER)
    hands.go_on(100)
    assert await admitted(store, "alice", 9) == 1


async def test_every_budget_that_was_set_is_listed(store: Store) -> None:
    await store.set_budget(secret("alice"), budget((2, 10)), OWNER)
    await store.set_budget(Meter("all"), budget((9, 10), (20, 60)), OWNER)
    await admitted(store, "carol", 1)
    assert sorted(await store.budgets(), key=lambda each: each.meter) == [
        StoredBudget(Meter("all"), budget((9, 10), (20, 60))),
        StoredBudget(secret("alice"), budget((2, 10))),
    ]


async def test_a_count_that_reaches_beyond_what_is_remembered_lets_nothing_too_many_through(
    store: Store, hands: Hands
) -> None:
    await store.set_budget(secret("alice"), budget((300, 1)), OWNER)
    for _ in range(10):
        hands.go_on(1)
        await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(300)))
    # 3,000 in ten seconds; a store may have forgotten the older ones.
    await store.set_budget(secret("alice"), budget((3_000, 3_600)), OWNER)
    assert await admitted(store, "alice", 1) == 0
    hands.go_on(3_600)
    verdicts = await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(3_100)))
    assert sum(isinstance(verdict, Admitted) for verdict in verdicts) == 3_000
