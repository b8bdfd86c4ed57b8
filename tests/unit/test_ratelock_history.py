"""What a meter's history says, with and without what is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.store import StoredBudget
from jfe_cni.ratelock.stores.history import LEAST_KEPT, PRUNED_TOGETHER, READ_AHEAD, History

METER = Meter("secret", "alice")
TIMES = st.lists(st.integers(0, 50), min_size=1, max_size=40).map(sorted)
BUDGETS = st.builds(
    lambda limits: Budget(tuple(limits)),
    st.lists(st.builds(Limit, st.integers(1, 45), st.integers(1, 60)), min_size=1, max_size=3),
)


def remembered(times: list[int], pruned: int) -> History:
    known = {number: at for number, at in enumerate(times, 1) if number > pruned}
    return History(METER, 1, None, len(times), pruned, times[pruned - 1] if pruned else 0, known)


@given(TIMES, BUDGETS, st.integers(0, 30), st.data())
def test_what_is_forgotten_never_lets_one_more_through(
    times: list[int], budget: Budget, later: int, data: st.DataObject
) -> None:
    pruned = data.draw(st.integers(0, len(times) - 1))
    now = times[-1] + later
    whole, part = remembered(times, 0).room(budget, now), remembered(times, pruned).room(budget, now)
    assert part.retry_after >= whole.retry_after
    counted = all(sum(at > now - limit.window for at in times) < limit.count for limit in budget.limits)
    assert (whole.retry_after == 0) == counted
    if pruned <= len(times) - budget.most:
        assert part == whole, "what a present limit needs is kept"


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(1, 256))
def test_what_is_read_is_what_the_attempts_to_come_look_at(count: int, admitted: int, attempts: int) -> None:
    history = History(METER, 1, StoredBudget(METER, Budget((Limit(count, 1),))), admitted)
    ranges = history.unknown(0, attempts)
    read = {number for first, last in ranges for number in range(first, last + 1)}
    wanted = {admitted - count + 1 + n for n in range(attempts)}
    assert {number for number in wanted if 0 < number <= admitted} <= read
    assert len(read) <= max(attempts, READ_AHEAD), "however large the budget is"


@given(st.integers(0, 100_000), st.integers(0, 3_000))
def test_only_what_no_limit_can_ask_for_is_superfluous(beyond: int, count: int) -> None:
    admitted = count + beyond
    history = History(METER, 1, StoredBudget(METER, Budget((Limit(max(count, 1), 1),))), admitted)
    superfluous = history.superfluous()
    if superfluous is None:
        assert admitted < max(count, LEAST_KEPT) + PRUNED_TOGETHER
    else:
        first, last = superfluous
        assert (first, admitted - last >= max(count, LEAST_KEPT)) == (1, True)


def test_a_pending_budget_keeps_what_it_will_need() -> None:
    small, large = Budget((Limit(3, 10),), 60), Budget((Limit(5_000, 10),))
    assert History(METER, 1, StoredBudget(METER, small), 5_000).superfluous() == (1, 1024)
    assert History(METER, 1, StoredBudget(METER, small, large, 99), 5_000).superfluous() is None
