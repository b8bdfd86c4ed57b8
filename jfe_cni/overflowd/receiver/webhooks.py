"""New floods told to whom it concerns: a POST of JSON to each URL, with an HMAC of it. Bounded in number and tries;
whatever is not told is counted."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum

import aiohttp

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.aggregation import Flood
from jfe_cni.overflowd.receiver.limits import Buckets, Limit
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.store import Store
from jfe_cni.overflowd.receiver.views import flood_view

log = logging.getLogger("overflowd")

SIGNATURE = "Overflowd-Signature"
MOST_WAITING = 256
MOST_TOLD = Limit(120, 3_600 * 1_000_000)
"""Floods: who can make thousands doesn't ring thousands of times."""

BACKOFF = (1.0, 4.0, 16.0, 64.0)
"""Seconds before each further try."""

_PATIENCE = 10.0


class Told(StrEnum):
    """What became of one flood at one URL."""

    TOLD = "told"
    TRIED_AGAIN = "tried-again"
    GIVEN_UP = "given-up"
    NO_ROOM = "no-room"
    TOO_MANY = "too-many"


def signature(secret: bytes, at: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`. Who takes it in compares `t` with its clock, or an old one
    would do for ever."""
    return f"t={at},v1={hmac.digest(secret, b'%d.' % at + body, 'sha256').hex()}"


class Webhooks:
    """For one event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        secret: bytes,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], Microseconds],
        backoff: Sequence[float] = BACKOFF,
    ) -> None:
        self._queues = {url: asyncio.Queue[bytes](MOST_WAITING) for url in urls}
        self._secret = secret
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._rung = Buckets[None](MOST_TOLD, 1)

    async def tell(self, flood: Flood) -> None:
        """Unless another replica does, or did before this one was started."""
        if not self._queues:
            return
        if not self._rung.take(None, self._clock()):
            self._metrics.webhook(Told.TOO_MANY)
            return
        try:
            if not await self._store.announce(flood.identity, self._clock()):
                return
        except JfeError as error:
            log.warning("a flood is told to nobody: %s", error)
            self._metrics.webhook(Told.GIVEN_UP)
            return
        body = json.dumps({"event": "flood", **flood_view(flood)}).encode()
        for queue in self._queues.values():
            try:
                queue.put_nowait(body)
            except asyncio.QueueFull:
                self._metrics.webhook(Told.NO_ROOM)

    async def run(self) -> None:
        """Until cancelled; what waits then is counted as given up."""
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session, asyncio.TaskGroup() as group:
                for url, queue in self._queues.items():
                    group.create_task(self._serve(session, url, queue))
        finally:
            for queue in self._queues.values():
                for _ in range(queue.qsize()):
                    self._metrics.webhook(Told.GIVEN_UP)

    async def _serve(self, session: aiohttp.ClientSession, url: str, queue: asyncio.Queue[bytes]) -> None:
        while True:
            body = await queue.get()
            done = False
            try:
                done = await self._post(session, url, body)
            finally:
                self._metrics.webhook(Told.TOLD if done else Told.GIVEN_UP)

    async def _post(self, session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
        for wait in (*self._backoff, None):
            headers = {
                "content-type": "application/json",
                SIGNATURE: signature(self._secret, self._clock() // 1_000_000, body),
            }
            try:
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    if answer.status < 300:
                        return True
                    why = f"status {answer.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = type(error).__name__
            log.warning("a webhook has failed: %s", why)
            if wait is not None:
                self._metrics.webhook(Told.TRIED_AGAIN)
                await asyncio.sleep(wait)
        return False
