"""Where passwords are hashed: off the event loop, and few at once, for each takes its memory (64 MiB and more)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jfe_cni.ratelock.faults import Overloaded

T = TypeVar("T")


class Hashing:
    """`at_once` threads; `waiting` more may hold a place, half of all places for one caller at most."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(at_once, thread_name_prefix="ratelock-hashing")
        self._places = at_once + waiting
        self._of_one = max(1, self._places // 2)
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Held from before an attempt is counted until it is answered, so that none is counted in vain. Raises
        Overloaded at once where there is none."""
        # What is repeated under an idempotency key is charged to no budget, and costs as much: others go on meanwhile.
        if self._held.total() >= self._places or self._held[caller] >= self._of_one:
            raise Overloaded("too many passwords are being checked", remedy="try again in a second")
        self._held[caller] += 1
        try:
            yield
        finally:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

    async def run(self, work: Callable[[], T]) -> T:
        """A caller that goes away meanwhile takes no thread from the others: what has begun ends first."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Waits for what has begun; what waits is cancelled."""
        self._executor.shutdown(cancel_futures=True)
