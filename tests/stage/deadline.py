"""Waiting for what must become true, with a limit and with words for the case that it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# Seconds that anything on a loaded machine may take before a test gives up; nothing is measured by it.
DEADLINE = 30.0
POLL = 0.02

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], what: str, *, seconds: float = DEADLINE, otherwise: Callable[[], str] | None = None
) -> T:
    """The first true value of `condition()`. AssertionError after `seconds`: `what` should have been, and
    `otherwise()` tells how things are instead."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            instead = f"; {otherwise()}" if otherwise is not None else ""
            raise AssertionError(f"within {seconds:.0f} s, {what}: it did not come to pass{instead}")
        time.sleep(POLL)
    return value
