"""Any order of attempts, changes of budgets and time, against a model of ten lines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from jfe_cni.ratelock.budgets import DEFAULT, Budget, Limit, Meter
from jfe_cni.ratelock.store import Admitted, Attempt, Store
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.attempts import OWNER
from tests.ratelock.hands import SECOND, Hands

BUDGETS = st.builds(
    Budget,
    st.lists(st.builds(Limit, st.integers(1, 6), st.integers(1, 12).map(SECOND.__mul__)), min_size=1, max_size=3).map(
        tuple
    ),
    st.sampled_from([0, 0, 5 * SECOND]),
)


@dataclass
class Model:
    """Of one meter."""

    budget: Budget | None
    times: list[int] = field(default_factory=list)
    pending: tuple[int, Budget] | None = None

    def has_room(self, now: int) -> bool:
        if self.pending is not None and self.pending[0] <= now:
            self.budget, self.pending = self.pending[1], None
        limits = self.budget.limits if self.budget is not None else ()
        return all(sum(at > now - limit.window for at in self.times) < limit.count for limit in limits)

    def change(self, budget: Budget, now: int) -> None:
        self.has_room(now)
        former, self.pending = self.budget, None
        if former is not None and former.loosening_delay and budget.loosens(former):
            self.pending = (now + former.loosening_delay, budget)
        else:
            self.budget = budget


class Against(RuleBasedStateMachine):
    """`all` and callers would be shared by the examples: two secrets and a class, of names of its own, are not."""

    numbers = itertools.count()

    def __init__(self, runner: asyncio.Runner, store: Store, hands: Hands) -> None:
        super().__init__()
        self._runner, self._store, self._hands = runner, store, hands
        example = next(self.numbers)
        self._secrets = [Meter("secret", f"secret-{example}-{n}") for n in range(2)]
        self._class = Meter("class", f"class-{example}")
        self._models = {self._class: Model(None), **{meter: Model(DEFAULT) for meter in self._secrets}}

    @rule(seconds=st.sampled_from([0, 0.000001, 0.5, 1, 1.999999, 2, 5, 11]))
    def time_goes_on(self, seconds: float) -> None:
        self._hands.go_on(seconds)

    @rule(wall=st.integers(-1000, 1000))
    def the_wall_clock_jumps(self, wall: int) -> None:
        self._hands.wall += wall * SECOND

    @rule(which=st.integers(0, 2), budget=BUDGETS)
    def an_owner_sets_a_budget(self, which: int, budget: Budget) -> None:
        meter = [*self._secrets, self._class][which]
        self._models[meter].change(budget, self._hands.boottime)
        self._runner.run(self._store.set_budget(meter, budget, OWNER))

    @rule(whose=st.lists(st.integers(0, 1), min_size=1, max_size=9))
    def attempts_are_made_together(self, whose: list[int]) -> None:
        now = self._hands.boottime
        expected = []
        for which in whose:
            models = [self._models[self._secrets[which]], self._models[self._class]]
            rooms = [model.has_room(now) for model in models]
            expected.append(all(rooms))
            for model in models:
                # Without a budget nothing is counted: one that is set later begins with nothing.
                if expected[-1] and model.budget is not None:
                    model.times.append(now)
        assert self._runner.run(self._admitted(whose)) == expected

    async def _admitted(self, whose: list[int]) -> list[bool]:
        asked = [
            Attempt("bob", "check", self._secrets[which].name, (self._secrets[which], self._class)) for which in whose
        ]
        verdicts = await asyncio.gather(*(self._store.admit(attempt) for attempt in asked))
        return [isinstance(verdict, Admitted) for verdict in verdicts]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as started:
        yield started


def test_every_store_decides_as_the_model_does(runner: asyncio.Runner, url: str) -> None:
    hands = Hands()
    store = runner.run(open_store(url, hands.clock()))
    run_state_machine_as_test(
        partial(Against, runner, store, hands),  # type: ignore[arg-type]  # anything that makes one will do
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    runner.run(store.close())
