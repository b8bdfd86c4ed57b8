"""Group commit: what arrives while one transaction is being committed shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from jfe_cni.ratelock.faults import StoreError

Work = TypeVar("Work")
Answer = TypeVar("Answer")
Other = TypeVar("Other")

# Above it a batch takes so long that the first in it would rather not have waited for the last.
MOST_TOGETHER = 256


@dataclass(frozen=True)
class _Batch(Generic[Work, Answer]):
    work: list[Work]
    answers: asyncio.Future[Sequence[Answer]]


class GroupCommit(Generic[Work, Answer]):
    """`transact`: one durable transaction, in a thread of its own; an answer for each piece of work, in order. Nobody
    hears of it before it returns; what it raises, everybody does. For one event loop."""

    def __init__(self, transact: Callable[[Sequence[Work]], Sequence[Answer]]) -> None:
        self._transact = transact
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ratelock-commits")
        self._waiting: list[_Batch[Work, Answer]] = []
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, work: Work) -> Answer:
        """Raises what `transact` raises, and StoreError after `close`. A caller that is cancelled is not waited for; its
        work is done nevertheless."""
        self._check_open()
        if not self._waiting or len(self._waiting[-1].work) >= MOST_TOGETHER:
            self._waiting.append(_Batch([], asyncio.get_running_loop().create_future()))
        batch = self._waiting[-1]
        batch.work.append(work)
        index = len(batch.work) - 1
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        # Several wait for one future: none may cancel it for the others.
        return (await asyncio.shield(batch.answers))[index]

    async def alone(self, transact: Callable[[], Other]) -> Other:
        """A transaction of its own, between two batches."""
        self._check_open()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, transact))

    async def close(self) -> None:
        """What waits is still committed and answered."""
        self._closed = True
        if self._running is not None:
            await self._running
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        """Batch after batch, while there is one. It begins after the callers that are ready to run have run: those who
        were answered together ask again together."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = self._waiting.pop(0)
            running = loop.run_in_executor(self._thread, self._transact, batch.work)
            await asyncio.wait([running])
            _hand_over(running, batch.answers)
            # One turn of the loop for those who were answered.
            await asyncio.sleep(0)
        self._running = None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="ask another replica, or start this one again")


def _hand_over(done: asyncio.Future[Sequence[Answer]], answers: asyncio.Future[Sequence[Answer]]) -> None:
    error = done.exception()
    if error is None:
        answers.set_result(done.result())
    else:
        answers.set_exception(error)
        # Everybody who waited may have been cancelled: that nobody reads it is no fault.
        answers.exception()
