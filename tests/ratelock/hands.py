"""Clocks that tests set: the machine's, as `stores/clock.py` reads them."""

from __future__ import annotations

from dataclasses import dataclass

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.stores.clock import MachineClock, Reading

SECOND: Microseconds = 1_000_000
# 2026-01-01
START: Microseconds = 1_767_225_600 * SECOND


@dataclass
class Hands:
    boot_id: str = "first boot"
    boottime: Microseconds = 100 * SECOND
    wall: Microseconds = START

    def read(self) -> Reading:
        return Reading(self.boot_id, self.boottime, self.wall)

    def clock(self) -> MachineClock:
        return MachineClock(self.read)

    def go_on(self, seconds: float) -> None:
        self.boottime += round(seconds * SECOND)
        self.wall += round(seconds * SECOND)

    def reboot(self, boot_id: str, *, wall: Microseconds) -> None:
        self.boot_id, self.boottime, self.wall = boot_id, SECOND, wall
