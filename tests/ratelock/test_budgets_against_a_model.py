"""Any order of attempts, changes of budgets and time, against a model of ten lines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from jfe_cni.ratelock.budgets import DEFAULT, Budget, Limit, Meter
from jfe_cni.ratelock.store import Admitted, Attempt, KeyReused, Spent, Store, Verdict
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
    """Of one meter. `default`: what holds where no owner has set a budget."""

    default: Budget | None
    budget: Budget | None = None
    times: list[int] = field(default_factory=list)
    pending: tuple[int, Budget | None] | None = None

    def __post_init__(self) -> None:
        self.budget = self.default

    def has_room(self, now: int) -> bool:
        if self.pending is not None and self.pending[0] <= now:
            self.budget, self.pending = self.pending[1], None
        limits = self.budget.limits if self.budget is not None else ()
        return all(sum(at > now - limit.window for at in self.times) < limit.count for limit in limits)

    def change(self, wanted: Budget | None, now: int) -> None:
        self.has_room(now)
        budget = wanted or self.default
        former, self.pending = self.budget, None
        if former is not None and former.loosening_delay and (budget is None or budget.loosens(former)):
            self.pending = (now + former.loosening_delay, budget)
        else:
            self.budget = budget


@dataclass(frozen=True)
class Asked:
    """Of two secrets, callers and replicas, which. `key`: an idempotency key."""

    secret: int
    caller: int
    key: str | None


ASKED = st.builds(Asked, st.integers(0, 1), st.integers(0, 1), st.sampled_from([None, None, "key-1", "key-2"]))
ALL = Meter("all")


class Against(RuleBasedStateMachine):
    """Examples share the stores: their secrets, callers and class have names of their own, and each leaves `all` as
    it was."""

    numbers = itertools.count()

    def __init__(self, runner: asyncio.Runner, replicas: Sequence[Store], hands: Hands) -> None:
        super().__init__()
        self._runner, self._replicas, self._hands = runner, replicas, hands
        example = next(self.numbers)
        self._secrets = [Meter("secret", f"secret-{example}-{n}") for n in range(2)]
        self._callers = [Meter("caller", f"caller-{example}-{n}") for n in range(2)]
        self._class = Meter("class", f"class-{example}")
        self._models = {meter: Model(DEFAULT) for meter in self._secrets}
        self._models |= {meter: Model(None) for meter in (ALL, self._class, *self._callers)}
        self._keys: dict[tuple[int, str], int] = {}

    @rule(seconds=st.sampled_from([0, 0.000001, 0.5, 1, 1.999999, 2, 5, 11]))
    def time_goes_on(self, seconds: float) -> None:
        self._hands.go_on(seconds)

    @rule(wall=st.integers(-1000, 1000))
    def the_wall_clock_jumps(self, wall: int) -> None:
        self._hands.wall += wall * SECOND

    @rule(which=st.integers(0, 5), budget=st.one_of(BUDGETS, st.none()), replica=st.integers(0, 1))
    def an_owner_sets_a_budget_or_removes_it(self, which: int, budget: Budget | None, replica: int) -> None:
        meter = list(self._models)[which]
        self._models[meter].change(budget, self._hands.boottime)
        self._runner.run(self._replicas[replica].set_budget(meter, budget, OWNER))

    @rule(asked=st.lists(ASKED, min_size=1, max_size=9), replica=st.integers(0, 1))
    def attempts_are_made_together(self, asked: list[Asked], replica: int) -> None:
        expected = [self._expected(each) for each in asked]
        assert self._runner.run(self._verdicts(asked, self._replicas[replica])) == expected

    def teardown(self) -> None:
        self._runner.run(self._replicas[0].set_budget(ALL, None, OWNER))
        # Longer than any delay, and any window.
        self._hands.go_on(100)

    def _expected(self, asked: Asked) -> str:
        now = self._hands.boottime
        key = None if asked.key is None else (asked.caller, asked.key)
        if key is not None and key in self._keys:
            return "repeated" if self._keys[key] == asked.secret else "key reused"
        charged = (self._secrets[asked.secret], self._callers[asked.caller], self._class, ALL)
        models = [self._models[meter] for meter in charged]
        # All are asked: a change that was pending takes effect.
        rooms = [model.has_room(now) for model in models]
        if not all(rooms):
            return "spent"
        for model in models:
            # Without a budget nothing is counted: one that is set later begins with nothing.
            if model.budget is not None:
                model.times.append(now)
        if key is not None:
            self._keys[key] = asked.secret
        return "admitted"

    async def _verdicts(self, asked: list[Asked], store: Store) -> list[str]:
        verdicts = await asyncio.gather(*(store.admit(self._attempt(each)) for each in asked))
        return [_told(verdict) for verdict in verdicts]

    def _attempt(self, asked: Asked) -> Attempt:
        secret, caller = self._secrets[asked.secret], self._callers[asked.caller]
        meters = (ALL, caller, secret, self._class)
        return Attempt(caller.name, "check", secret.name, meters, asked.key, secret.name.encode())


def _told(verdict: Verdict) -> str:
    match verdict:
        case Admitted(repeated=repeated):
            return "repeated" if repeated else "admitted"
        case Spent():
            return "spent"
        case KeyReused():
            return "key reused"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as started:
        yield started


def test_every_store_decides_as_the_model_does(runner: asyncio.Runner, url: str) -> None:
    hands = Hands()
    replicas = [runner.run(open_store(url, hands.clock())) for _ in range(2)]
    run_state_machine_as_test(
        partial(Against, runner, replicas, hands),  # type: ignore[arg-type]  # anything that makes one will do
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    for replica in replicas:
        runner.run(replica.close())
