"""A replica with its callers, in a process that may be killed at any time. What callers were answered is in their own
record, a line each, written when they have the answer."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.store import Admitted
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.stores.clock import Clock, MachineClock, Moment, Reading, ServerClock
from tests.ratelock.attempts import attempt

SECRETS = ("alice", "carol")
_LAYOUT = struct.Struct("qq")


class SharedClock:
    """What all replicas read, in a file: how far the wall clock is off, and which boot this is (which changes while no
    replica runs)."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_LAYOUT.pack(0, 1))
        with path.open("r+b") as file:
            # Each number is stored at once. `pack_into` would write zeros first, which a replica may see.
            self._numbers = memoryview(mmap.mmap(file.fileno(), _LAYOUT.size)).cast("q")

    def set(self, off: Microseconds, boot: int) -> None:
        self._numbers[0], self._numbers[1] = off, boot

    def read(self) -> Reading:
        off, boot = self._numbers
        # Each boot begins its count anew.
        boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 - boot * 1_000_000
        return Reading(f"boot {boot}", boottime, time.time_ns() // 1000 + off)

    def clock(self, url: str) -> Clock:
        return MachineClock(self.read) if url.startswith("sqlite") else _Jumping(self)


class _Jumping(ServerClock):
    """A server's clock that is off by as much as the wall clock is, as far as that is behind."""

    def __init__(self, shared: SharedClock) -> None:
        self._shared = shared

    def moment(self, last: Moment, server: Microseconds) -> Moment:
        behind = min(0, self._shared.read().wall - time.time_ns() // 1000)
        return super().moment(last, server + behind)


@dataclass(frozen=True)
class Answer:
    """Of CLOCK_BOOTTIME, microseconds. `number`: of the log's entry; 0: refused."""

    asked: Microseconds
    answered: Microseconds
    number: int
    caller: str
    secret: str


def run(url: str, folder: Path, record: Path, callers: int) -> None:
    """Until it is killed."""
    asyncio.run(_run(url, folder, record, callers))


async def _run(url: str, folder: Path, record: Path, callers: int) -> None:
    store = await open_store(url, SharedClock(folder / "clock").clock(url))
    file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def ask(caller: str) -> None:
        while True:
            secret = random.choice(SECRETS)
            asked = _now()
            try:
                verdict = await store.admit(attempt(secret, caller))
            except JfeError:
                continue
            number = verdict.number if isinstance(verdict, Admitted) else 0
            os.write(file, json.dumps([asked, _now(), number, caller, secret]).encode() + b"\n")
            await asyncio.sleep(0 if number else 0.01)

    await asyncio.gather(*(ask(f"caller-{n}") for n in range(callers)))


def _now() -> Microseconds:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def answers(record: Path) -> Iterator[Answer]:
    """A line that was cut off by the kill is an answer that nobody read."""
    for line in record.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield Answer(*json.loads(line))
