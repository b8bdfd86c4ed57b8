"""A demonstration of two replicas: each promise fails when, and only when, what it is about is not so."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jfe_cni.ratelock.demo.findings import Absence, Answer, Findings, Log

# Three in two seconds, for four; replica b is dead from 1.5 to 3.
RELEASED = tuple(
    Answer(at, at + 0.01, replica, released=True)
    for at, replica in ((0.0, "a"), (0.1, "b"), (0.2, "a"), (2.02, "a"), (2.15, "a"), (3.5, "b"))
)
REFUSED = (Answer(0.3, 0.31, "a", released=False),)
GOOD = Findings(3, 2.0, 4.0, (*RELEASED, *REFUSED), Absence("b", 1.5, 3.0), Log(6, intact=True))


def failed(**changed: Any) -> list[str]:
    return [promise for promise, held in dataclasses.replace(GOOD, **changed).promises.items() if not held]


def test_all_hold() -> None:
    assert failed() == []
    assert (GOOD.most_within, GOOD.while_one_was_dead) == (3, 2)


@pytest.mark.parametrize(
    ("changed", "promise"),
    [
        ({"answers": (*GOOD.answers, Answer(0.3, 1.99, "b", released=True)), "log": Log(7, intact=True)}, "never more"),
        ({"answers": RELEASED}, "more was asked for"),
        ({"answers": tuple(dataclasses.replace(each, replica="a") for each in GOOD.answers)}, "both replicas"),
        ({"absence": Absence("b", 0.5, 2.0)}, "while one was dead"),
        ({"seconds": 12.0}, "what came free"),
        ({"log": Log(5, intact=True)}, "every release is in the log"),
        ({"log": Log(6, intact=False)}, "the log is as it was written"),
    ],
    ids=lambda part: part.split()[0] if isinstance(part, str) else "",
)
def test_each_fails_by_itself(changed: dict[str, Any], promise: str) -> None:
    (only,) = failed(**changed)
    assert only.startswith(promise)


def test_one_that_may_have_been_of_the_next_window_is_not_held_against_anybody() -> None:
    """It was answered after the window had ended: nobody knows when it was counted."""
    late = Answer(0.3, 2.4, "b", released=True)
    assert failed(answers=(*GOOD.answers, late), log=Log(7, intact=True)) == []


def test_nothing_released_keeps_no_promise_about_its_number() -> None:
    assert failed(answers=REFUSED)[0].startswith("never more")
