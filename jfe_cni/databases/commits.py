"""Group commit: what arrives while one transaction is being committed shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from jfe_cni.errors import StoreError

Work = TypeVar("Work")
Answer = TypeVar("Answer")
Other = TypeVar("Other")

# Above it a batch takes so long that the first in it would rather not have waited for the last.
MOST_TOGETHER = 256


class GroupCommit(Generic[Work, Answer]):
    """`transact`: one durable transaction, in a thread of its own; an answer for each piece of work, in order. Nobody
    hears of it before it returns; what it raises, everybody does. For one event loop."""

    def __init__(self, transact: Callable[[Sequence[Work]], Sequence[Answer]]) -> None:
        self._transact = transact
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commits")
        self._waiting: list[tuple[Work, asyncio.Future[Answer]]] = []
        # Set while nothing runs and nothing waits.
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def submit(self, work: Work) -> Answer:
        """Raises what `transact` raises, and StoreError after `close`. The work of a caller that is cancelled is done
        nevertheless."""
        self._check_open()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((work, answer))
        if self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._begin)
        return await answer

    async def alone(self, transact: Callable[[], Other]) -> Other:
        """A transaction of its own, between two batches."""
        self._check_open()
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, transact))

    async def close(self) -> None:
        """What waits is still committed and answered."""
        self._closed = True
        await self._idle.wait()
        await asyncio.to_thread(self._thread.shutdown)

    def _begin(self) -> None:
        together, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        if not together:
            self._idle.set()
            return
        work, answers = [each[0] for each in together], [each[1] for each in together]
        loop = asyncio.get_running_loop()

        def answer(done: Future[Sequence[Answer]]) -> None:
            loop.call_soon_threadsafe(self._answer, answers, done)

        # One call into the loop when it is done: `run_in_executor` makes a chain of futures and three.
        self._thread.submit(self._transact, work).add_done_callback(answer)

    def _answer(self, waiting: Sequence[asyncio.Future[Answer]], done: Future[Sequence[Answer]]) -> None:
        try:
            error = done.exception()
            for number, answer in enumerate(waiting):
                if answer.cancelled():
                    continue
                if error is None:
                    answer.set_result(done.result()[number])
                else:
                    answer.set_exception(error)
        finally:
            # After those who were answered: they may ask again, and then do so together. Whatever has gone wrong: those
            # who come later are not to wait forever.
            asyncio.get_running_loop().call_soon(self._begin)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="ask another replica, or start this one again")
