"""Budgets: limits over sliding windows, what is charged for an attempt, and whether there is room. Pure.

The window slides exactly: an attempt is admitted by a limit of N in W if, and only if, fewer than N admitted attempts
lie in the W before it. To know that, one of them must be looked at, whatever N is: the one that was admitted N attempts
ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jfe_cni.errors import RequestError

Microseconds = int
MeterKind = Literal["all", "caller", "class", "secret"]

MOST_LIMITS = 8
MOST_COUNT = 1_000_000_000
# A year and a day: what lasts longer is no budget but a lifetime.
LONGEST_WINDOW: Microseconds = 366 * 86_400 * 1_000_000


@dataclass(frozen=True, order=True)
class Meter:
    """What is counted: every attempt (`name` empty), those of a caller, those on a class of secrets, on one secret."""

    kind: MeterKind
    name: str = ""


@dataclass(frozen=True, order=True)
class Limit:
    """At most `count` attempts in any `window`."""

    count: int
    window: Microseconds

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_COUNT or not 1 <= self.window <= LONGEST_WINDOW:
            raise RequestError(
                f"{self.count} in {self.window / 1e6:g} s is no limit",
                remedy="choose 1 to 1,000,000,000 attempts in a microsecond to 366 days",
            )


@dataclass(frozen=True)
class Budget:
    """All limits hold at once. `loosening_delay`: how long a change that lets more through waits before it holds; one
    that lets less through holds at once."""

    limits: tuple[Limit, ...]
    loosening_delay: Microseconds = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.limits) <= MOST_LIMITS:
            raise RequestError(f"a budget has 1 to {MOST_LIMITS} limits", remedy="leave out those that others imply")

    def loosens(self, former: Budget) -> bool:
        """Whether this one may let through what `former` would not: some limit of `former` is implied by none of
        these, or the delay is shorter."""
        return self.loosening_delay < former.loosening_delay or any(
            not any(limit.count <= old.count and limit.window >= old.window for limit in self.limits)
            for old in former.limits
        )

    @property
    def most(self) -> int:
        """As many of the last attempts as must be remembered."""
        return max(limit.count for limit in self.limits)


# As in 2016: three checks in ten seconds, on each secret.
DEFAULT = Budget((Limit(3, 10_000_000),))


@dataclass(frozen=True)
class Room:
    """`retry_after`: 0 where there is room; else how long until there is, if nobody else takes it."""

    limit: Limit | None
    retry_after: Microseconds


def room(budget: Budget, now: Microseconds, nth_last: Sequence[Microseconds | None]) -> Room:
    """`nth_last`: for each limit, when the attempt was admitted that is its `count`-th from the last; None where there
    have not been so many. Of several limits that are spent, the one that holds longest."""
    worst = Room(None, 0)
    for limit, at in zip(budget.limits, nth_last, strict=True):
        if at is not None and (wait := at + limit.window - now) > worst.retry_after:
            worst = Room(limit, wait)
    return worst
