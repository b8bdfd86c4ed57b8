"""What is remembered of one meter, and what that says of the next attempt. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jfe_cni.ratelock.budget_changes import in_force, most_remembered
from jfe_cni.ratelock.budgets import Budget, Meter, Microseconds, Room, room
from jfe_cni.ratelock.store import Spent, StoredBudget

# Kept at least, whatever the budget: so that a budget that is set later finds what it needs.
LEAST_KEPT = 1_000
# Forgotten at once, so that most attempts need not.
PRUNED_TOGETHER = 256
# Read beyond what is asked for: the attempts to come ask for the ones that follow.
READ_AHEAD = 1_024
_MOST_KNOWN = 4_096

# First and last number.
Range = tuple[int, int]


@dataclass
class History:
    """`id`: of its row, None where it has none. `admitted`: the number of the last attempt. Up to `pruned` they are
    forgotten; the newest of those was at `pruned_at`. `known`: some of the others, when each was."""

    meter: Meter
    id: int | None = None
    stored: StoredBudget | None = None
    admitted: int = 0
    pruned: int = 0
    pruned_at: Microseconds = 0
    known: dict[int, Microseconds] = field(default_factory=dict)

    def budget(self, now: Microseconds) -> Budget | None:
        return in_force(self.meter, self.stored, now)

    def unknown(self, now: Microseconds, attempts: int) -> list[Range]:
        """What must be read before that many attempts can be decided on."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        budget = self.budget(now)
        found: list[Range] = []
        for limit in budget.limits if budget is not None else ():
            first = max(self.admitted - limit.count + 1, self.pruned + 1)
            last = min(self.admitted - limit.count + attempts, self.admitted)
            first = next((number for number in range(first, last + 1) if number not in self.known), last + 1)
            if first <= last:
                found.append((first, min(max(last, first + READ_AHEAD - 1), self.admitted)))
        return found

    def room(self, budget: Budget, now: Microseconds) -> Room:
        return room(budget, now, [self._at(self.admitted - limit.count + 1) for limit in budget.limits])

    def _at(self, number: int) -> Microseconds | None:
        if number <= 0:
            return None
        # What is forgotten was then, or earlier: as if it were then, nothing too many is let through.
        return self.pruned_at if number <= self.pruned else self.known[number]

    def count(self, now: Microseconds) -> int:
        """One more; its number."""
        self.admitted += 1
        self.known[self.admitted] = now
        return self.admitted

    def superfluous(self) -> Range | None:
        """What no limit, present or pending, can ask for again; None while it is little."""
        kept = max(most_remembered(self.meter, self.stored), LEAST_KEPT)
        if self.admitted - self.pruned < kept + PRUNED_TOGETHER:
            return None
        return self.pruned + 1, min(self.admitted - kept, self.pruned + 4 * PRUNED_TOGETHER)


def spent(histories: Sequence[History], now: Microseconds) -> Spent | None:
    """What holds longest of all that is spent."""
    worst: Spent | None = None
    for history in histories:
        budget = history.budget(now)
        if budget is None:
            continue
        room = history.room(budget, now)
        if room.limit is not None and (worst is None or room.retry_after > worst.retry_after):
            worst = Spent(history.meter, room.limit, room.retry_after)
    return worst
