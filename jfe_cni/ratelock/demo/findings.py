"""What the callers of a demonstration were told, and the promises that it is held against. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Of one attempt, as its caller knows it: seconds of one clock, whom it asked, whether the record was released."""

    asked: float
    answered: float
    replica: str
    released: bool


@dataclass(frozen=True)
class Absence:
    """While one of the replicas was dead; seconds of the same clock."""

    replica: str
    began: float
    ended: float


@dataclass(frozen=True)
class Log:
    """What the service's own log has: `releases`, how many of the record; `intact`, whether its chain holds."""

    releases: int
    intact: bool


@dataclass(frozen=True)
class Findings:
    """`count` in `window` seconds was the budget."""

    count: int
    window: float
    seconds: float
    answers: Sequence[Answer]
    absence: Absence
    log: Log

    @property
    def released(self) -> list[Answer]:
        return [each for each in self.answers if each.released]

    @property
    def most_within(self) -> int:
        """How many were certainly released within one window: asked after it began, answered before it ended."""
        released = self.released
        return max(
            (
                sum(first.asked <= each.asked and each.answered < first.asked + self.window for each in released)
                for first in released
            ),
            default=0,
        )

    @property
    def while_one_was_dead(self) -> int:
        return sum(self.absence.began <= each.asked and each.answered <= self.absence.ended for each in self.released)

    @property
    def promises(self) -> dict[str, bool]:
        by = Counter(each.replica for each in self.answers)
        whole_windows = int(self.seconds / self.window)
        return {
            f"never more than {self.count} in any {self.window:g} s": 0 < self.most_within <= self.count,
            "more was asked for than that": len(self.answers) > len(self.released),
            "both replicas answered": len(by) == 2,
            "while one was dead the other went on": self.while_one_was_dead > 0,
            # Half of what would be given out if nobody were ever late.
            "what came free was given out again": len(self.released) >= self.count * whole_windows / 2,
            "every release is in the log": self.log.releases >= len(self.released),
            "the log is as it was written": self.log.intact,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "budget": {"count": self.count, "window": self.window},
            "seconds": self.seconds,
            "asked": len(self.answers),
            "released": len(self.released),
            "most_within_a_window": self.most_within,
            "released_while_one_was_dead": self.while_one_was_dead,
            "answered_by": dict(Counter(each.replica for each in self.answers)),
            "releases_in_log": self.log.releases,
            "log_intact": self.log.intact,
            "promises": self.promises,
        }
