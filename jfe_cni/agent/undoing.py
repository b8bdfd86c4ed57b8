"""Undoing that is done to its end, whoever loses patience meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits until `work` has ended, through every cancellation; one that came meanwhile is raised at the end.

    A caller that went away is followed by a runtime that deletes what it left, and each cancels: an undoing that were
    cut off by the second would leave in the kernel what nobody remembers."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # Of this one, or of `work` itself, which is done then.
            cancelled = True
    if cancelled and not task.cancelled():
        task.result()
        raise asyncio.CancelledError
    task.result()
