"""The store's time, in microseconds since the epoch. It never goes back, nor forward faster than it is trusted to.

A database server's clock is trusted, and held where it goes back. An embedded store has this machine's clocks only:
within a boot CLOCK_BOOTTIME counts (clock_gettime(2): it can't be set, and goes on in suspend), and the wall clock,
which root and NTP set, counts for nothing. Between two boots only the wall clock knows how long it was, and it is
believed up to a bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jfe_cni.ratelock.budgets import Microseconds

# A day: as much as one boot with a wall clock set forward can give away. A machine that was off for longer has its
# windows slide the later.
TRUSTED_ABSENCE: Microseconds = 86_400 * 1_000_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Reading:
    """This machine's clocks at one time. `boot_id`: random(4), another after each boot."""

    boot_id: str
    boottime: Microseconds
    wall: Microseconds


@dataclass(frozen=True)
class Moment:
    """The store's time `at`, and what this machine's clocks said then (empty and 0 where they don't count)."""

    at: Microseconds
    boot_id: str = ""
    boottime: Microseconds = 0
    wall: Microseconds = 0


class Clock(Protocol):
    def moment(self, last: Moment, server: Microseconds) -> Moment:
        """The time after `last` (`at` 0: there was none), which the store kept. `server`: the database server's clock,
        read in the same transaction; 0 where it has none."""
        ...


def advanced(last: Moment, reading: Reading, trusted_absence: Microseconds) -> Moment:
    if last.at == 0:
        at = reading.wall
    elif reading.boot_id == last.boot_id:
        at = last.at + max(0, reading.boottime - last.boottime)
    else:
        at = last.at + min(max(0, reading.wall - last.wall), trusted_absence)
    return Moment(at, reading.boot_id, reading.boottime, reading.wall)


class ServerClock:
    def moment(self, last: Moment, server: Microseconds) -> Moment:
        return Moment(max(last.at, server))


class MachineClock:
    """`read`: this machine's clocks."""

    def __init__(self, read: Callable[[], Reading], trusted_absence: Microseconds = TRUSTED_ABSENCE) -> None:
        self._read = read
        self._trusted_absence = trusted_absence

    def moment(self, last: Moment, server: Microseconds) -> Moment:
        return advanced(last, self._read(), self._trusted_absence)


def this_machine() -> Callable[[], Reading]:
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    return lambda: Reading(boot_id, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, time.time_ns() // 1000)
