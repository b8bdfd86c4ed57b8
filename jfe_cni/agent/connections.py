"""The connections that the upgrader reports, for whoever wants to see them; asked for only while somebody does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.errors import UpgraderError

# A follower that falls so far behind loses the oldest: the agent's memory is not its buffer.
_QUEUE_LIMIT = 10_000
# Workers answer on their own; when none has said anything for this long, those open have been named.
_SETTLE_SECONDS = 0.25
# Where connections come and go all the while they never fall silent: then so many looks must do.
_MOST_LOOKS = 8


class Want(Protocol):
    async def __call__(self, *, wanted: bool) -> None: ...


class Connections:
    """`want` makes the upgrader report, or ends that. Raises UpgraderError where it is away."""

    def __init__(self, want: Want) -> None:
        self._want = want
        self._open: dict[int, ConnectionReport] = {}
        self._followers: set[asyncio.Queue[ConnectionReport]] = set()
        self._changing = asyncio.Lock()
        self._joining = 0
        self._news = 0

    @property
    def wanted(self) -> bool:
        return bool(self._followers) or self._joining > 0

    def take(self, connection: ConnectionReport) -> None:
        self._news += 1
        if connection.phase == "closed":
            self._open.pop(connection.number, None)
        else:
            known = self._open.get(connection.number)
            self._open[connection.number] = connection
            if known is not None and known.phase == connection.phase:
                # Named once more for somebody else: no news.
                return
        for follower in self._followers:
            if follower.full():
                follower.get_nowait()
            follower.put_nowait(connection)

    def forget(self) -> None:
        """The upgrader is gone, and its connections with it."""
        self._open.clear()

    async def now(self) -> list[ConnectionReport]:
        """The connections open now, those of one workload together, oldest first."""
        async with self._following():
            for _ in range(_MOST_LOOKS):
                news = self._news
                await asyncio.sleep(_SETTLE_SECONDS)
                if news == self._news:
                    break
            return sorted(self._open.values(), key=lambda connection: (connection.workload, connection.number))

    async def follow(self) -> AsyncGenerator[ConnectionReport, None]:
        """First those open now, then each as it opens, is decided or ends."""
        async with self._following() as queue:
            while True:
                yield await queue.get()

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[asyncio.Queue[ConnectionReport]]:
        queue: asyncio.Queue[ConnectionReport] = asyncio.Queue(_QUEUE_LIMIT)
        async with self._changing:
            if not self._followers:
                # What is told before the answer comes is kept.
                self._joining += 1
                try:
                    await self._want(wanted=True)
                finally:
                    self._joining -= 1
            for connection in self._open.values():
                if not queue.full():
                    queue.put_nowait(connection)
            self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)
            async with self._changing:
                if not self._followers:
                    self._open.clear()
                    with contextlib.suppress(UpgraderError):
                        await self._want(wanted=False)
