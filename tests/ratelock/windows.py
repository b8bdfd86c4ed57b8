"""How many were let through within a window, by what the callers themselves have written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jfe_cni.ratelock.budgets import Budget, Meter
from tests.ratelock.replica import Answer


def assert_never_one_more(seen: Sequence[Answer], budgets: Mapping[Meter, Budget]) -> None:
    """`seen`: those that were admitted. Each budget has something to count."""
    for meter, each in budgets.items():
        charged = [answer for answer in seen if is_charged(meter, answer.caller, answer.secret)]
        assert charged, meter
        for limit in each.limits:
            assert most_within(charged, limit.window) <= limit.count, meter


def is_charged(meter: Meter, caller: str, secret: str) -> bool:
    """Both secrets are of the class."""
    return meter.kind in ("all", "class") or meter.name == (caller if meter.kind == "caller" else secret)


def most_within(seen: Sequence[Answer], window: int) -> int:
    """How many were certainly admitted within one window: asked after it began, answered before it ended."""
    return max(
        sum(first.asked <= each.asked and each.answered < first.asked + window for each in seen) for first in seen
    )


def assert_within(times: Sequence[int], budget: Budget) -> None:
    for limit in budget.limits:
        for first, beyond in zip(times, times[limit.count :], strict=False):
            assert beyond - first >= limit.window
