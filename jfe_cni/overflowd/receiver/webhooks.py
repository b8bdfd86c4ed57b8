"""New floods, and changed keys, told to whom it concerns: a POST of JSON to each URL, with an HMAC of it. Bounded in
number and tries, for each network that tells of something and in all; what there are too many of is told when there is
room again, that of most networks first. Whatever is not told is counted.

Whether it was told is known to the store, and claimed there before it is told (`announcements.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.aggregation import MOST_FLOODS, Flood, expendable
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.domains import registrable
from jfe_cni.overflowd.receiver.going_on import GoingOn
from jfe_cni.overflowd.receiver.kept import Announcement, Change
from jfe_cni.overflowd.receiver.limits import Buckets, Limit
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.store import Store
from jfe_cni.overflowd.receiver.views import change_view, flood_view

SIGNATURE = "Overflowd-Signature"
MOST_WAITING = MOST_FLOODS
_HOUR: Microseconds = 3_600 * 1_000_000
MOST_TOLD = Limit(120, _HOUR)
"""At one URL: who can make thousands of floods doesn't ring thousands of times."""

MOST_OF_ONE = Limit(20, _HOUR)
"""Of those, that one network alone tells of: six must agree to make the others wait."""

BACKOFF = (1.0, 4.0, 16.0, 64.0)
"""Seconds before each further try."""

PATIENCE = 10.0
"""Seconds that each try may take."""

LEASE: Microseconds = 5 * 60 * 1_000_000
"""Who has claimed it tells of it within that: more than all tries take."""

LATEST: Microseconds = 86_400 * 1_000_000
"""What could not be told for so long is told no more."""

# Seconds between two looks for what there is room for now, or another replica has not told.
_LOOK = 5.0


class Told(StrEnum):
    """What became of one announcement at one URL."""

    TOLD = "told"
    TRIED_AGAIN = "tried-again"
    GIVEN_UP = "given-up"
    NO_ROOM = "no-room"
    TOO_MANY = "too-many"
    """Not yet told, for that."""


def signature(secret: bytes, at: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`. Who takes it in compares `t` with its clock, or an old one
    would do for ever."""
    return f"t={at},v1={hmac.digest(secret, b'%d.' % at + body, 'sha256').hex()}"


@dataclass(frozen=True)
class _OfFlood:
    """As it is when it is asked, for it goes on."""

    flood: Flood

    @property
    def announcement(self) -> Announcement:
        return Announcement(f"flood {self.flood.name}", self.flood.since, self.flood.last)

    @property
    def networks(self) -> Collection[str]:
        return self.flood.networks

    @property
    def document(self) -> Mapping[str, Any]:
        return {"event": "flood", **flood_view(self.flood)}


@dataclass(frozen=True)
class _OfChange:
    change: Change

    @property
    def announcement(self) -> Announcement:
        name = f"changed-keys {self.change.domain} {' '.join(self.change.keys)}"
        return Announcement(name, self.change.since, self.change.since)

    @property
    def networks(self) -> Collection[str]:
        return {registrable(self.change.domain)}

    @property
    def document(self) -> Mapping[str, Any]:
        return {"event": "changed-keys", **change_view(self.change)}


_Subject = _OfFlood | _OfChange


class Webhooks:
    """For one event loop. `running`: a clock that is never set."""

    def __init__(
        self,
        urls: Sequence[str],
        secret: bytes,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], Microseconds],
        running: Callable[[], Microseconds],
        complaints: Complaints,
        backoff: Sequence[float] = BACKOFF,
    ) -> None:
        self._clock = clock
        self._going_on = GoingOn(store)
        self._hooks = [
            _Hook(url, secret, store, metrics, clock, running, complaints, backoff, self._going_on)
            for url in dict.fromkeys(urls)
        ]

    def tell(self, flood: Flood) -> None:
        """Unless another replica does, or did before this one was started."""
        self._put(_OfFlood(flood))

    def tell_of_change(self, change: Change) -> None:
        self._put(_OfChange(change))

    async def run(self) -> None:
        """Until cancelled; what waits then is told by another replica, or after the next start."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session, asyncio.TaskGroup() as group:
            for hook in self._hooks:
                group.create_task(hook.run(session))
            while self._hooks:
                await asyncio.sleep(_LOOK)
                with contextlib.suppress(JfeError):
                    await self._going_on.write(self._clock())

    def _put(self, subject: _Subject) -> None:
        for hook in self._hooks:
            hook.put(subject)


class _Hook:
    """One URL."""

    def __init__(
        self,
        url: str,
        secret: bytes,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], Microseconds],
        running: Callable[[], Microseconds],
        complaints: Complaints,
        backoff: Sequence[float],
        going_on: GoingOn,
    ) -> None:
        self._url = url
        self._name = hashlib.sha256(url.encode()).hexdigest()
        self._secret = secret
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._running = running
        self._complaints = complaints
        self._backoff = backoff
        self._going_on = going_on
        self._waiting: dict[str, _Subject] = {}
        # Of those, whom there was no room for once.
        self._too_many: set[str] = set()
        self._woken = asyncio.Event()
        self._in_all = Buckets[None](MOST_TOLD, 1)
        self._of_one = Buckets[str](MOST_OF_ONE)

    def put(self, subject: _Subject) -> None:
        if subject.announcement.name not in self._waiting and len(self._waiting) >= MOST_WAITING:
            for name in expendable({name: each.networks for name, each in self._waiting.items()}, 1):
                self._drop(name, Told.NO_ROOM)
        self._waiting[subject.announcement.name] = subject
        self._woken.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._look(session)
            except JfeError as error:
                self._complaints.complain(f"nobody is told of what is new: {error}")

    async def _look(self, session: aiohttp.ClientSession) -> None:
        """Tells of all that may be told now. Raises StoreError."""
        claimed_by_others: set[str] = set()
        while True:
            since = {name: each.announcement.since for name, each in self._waiting.items()}
            for name in await self._store.told(self._name, since) if since else ():
                self._told(self._waiting.get(name))
                self._drop(name)
            for name in [name for name, each in self._waiting.items() if self._is_late(each)]:
                self._drop(name, Told.GIVEN_UP)
            chosen = self._choose(claimed_by_others)
            if chosen is None:
                return
            # What came meanwhile may be more important than what waits.
            if not await self._tell(session, *chosen):
                claimed_by_others.add(chosen[0])

    def _is_late(self, subject: _Subject) -> bool:
        return self._clock() > subject.announcement.last + LATEST

    def _choose(self, but: Collection[str]) -> tuple[str, _Subject, str] | None:
        """Its name, and at whose expense it is told of."""
        now = self._running()
        for name, each in sorted(self._waiting.items(), key=lambda item: -len(item[1].networks)):
            if name in but:
                continue
            payer = next((network for network in sorted(each.networks) if self._of_one.has(network, now)), None)
            if payer is not None and self._in_all.has(None, now):
                return name, each, payer
            if name not in self._too_many:
                self._too_many.add(name)
                self._metrics.webhook(Told.TOO_MANY)
        return None

    async def _tell(self, session: aiohttp.ClientSession, name: str, subject: _Subject, payer: str) -> bool:
        """False: another replica does, or has begun to. Raises StoreError."""
        now = self._clock()
        until = now + LEASE
        try:
            if not await self._store.claim(self._name, subject.announcement, now, until):
                return False
            self._told(subject)
            self._of_one.take(payer, self._running())
            self._in_all.take(None, self._running())
            done = await self._post(session, self._url, json.dumps(subject.document).encode())
        except asyncio.CancelledError:
            await self._store.release(self._name, name, until)
            raise
        if self._waiting.get(name) is subject:
            self._drop(name)
        self._metrics.webhook(Told.TOLD if done else Told.GIVEN_UP)
        await self._store.settle(self._name, name, until)
        return True

    def _told(self, subject: _Subject | None) -> None:
        if isinstance(subject, _OfFlood):
            self._going_on.told(subject.announcement, subject.flood)

    def _drop(self, name: str, why: Told | None = None) -> None:
        self._waiting.pop(name, None)
        self._too_many.discard(name)
        if why is not None:
            self._metrics.webhook(why)

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
            # ValueError: of a host that no resolver can be asked for (`encodings.idna`).
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                why = type(error).__name__
            self._complaints.complain(f"a webhook has failed: {why}")
            if wait is not None:
                self._metrics.webhook(Told.TRIED_AGAIN)
                await asyncio.sleep(wait)
        return False
