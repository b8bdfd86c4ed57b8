"""What of each workload passes uncovered by its protocol, added up over all the tables that were loaded for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from jfe_cni.agent.reports import PassedReport
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.errors import JfeError
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.rules.passed import Passed, Way

_Key = tuple[str, Way, str]
_Count = tuple[int, int]


class Totals:
    """The kernel counts from nothing each time that a table is loaded; these go on."""

    def __init__(self) -> None:
        self._last: dict[_Key, _Count] = {}
        self._sum: dict[_Key, _Count] = {}

    def take(self, reading: Iterable[Passed]) -> None:
        """A reading of one table."""
        for each in reading:
            key, now = (each.workload, each.way, each.protocol), (each.packets, each.bytes)
            last = self._last.get(key, (0, 0))
            if now[0] < last[0]:
                last = (0, 0)  # somebody else has loaded the table anew, or reset its counters
            before = self._sum.get(key, (0, 0))
            self._last[key] = now
            self._sum[key] = (before[0] + now[0] - last[0], before[1] + now[1] - last[1])

    def began_anew(self, workload: str) -> None:
        """Its table has been loaded."""
        self._last = {key: count for key, count in self._last.items() if key[0] != workload}

    def forget(self, gone: Iterable[str]) -> None:
        """They are enrolled no more."""
        names = set(gone)
        self._last = {key: count for key, count in self._last.items() if key[0] not in names}
        self._sum = {key: count for key, count in self._sum.items() if key[0] not in names}

    def workloads(self) -> set[str]:
        return {workload for workload, _, _ in self._sum}

    def of(self, workload: str) -> tuple[PassedReport, ...]:
        """What there was, by way and protocol; nothing of what there was none of."""
        return tuple(
            PassedReport(way, protocol, packets, size)
            for (whose, way, protocol), (packets, size) in sorted(self._sum.items())
            if whose == workload and packets
        )


class PassedTraffic:
    def __init__(self, roster: Roster, ground: KernelGround) -> None:
        self._roster = roster
        self._ground = ground
        self._totals = Totals()

    async def read_all(self) -> None:
        """Every table once. One that cannot be read keeps its figures: what is wrong with it is others' to say."""
        records = list(self._roster)
        self._totals.forget(self._totals.workloads() - {record.workload.id for record in records})
        host = [record for record in records if record.workload.shape == "host"]
        for record in [record for record in records if record.workload.shape == "namespace"] + host[:1]:
            await self.read(record)
        for record in records:
            record.passed = self._totals.of(record.workload.id)

    async def read(self, record: Record) -> None:
        """The table that is loaded now, before another takes its place."""
        alone = record.workload.id if record.workload.shape == "namespace" else None
        with contextlib.suppress(JfeError):
            self._totals.take(await self._ground.passed(record.namespace, alone))

    def began_anew(self, records: Iterable[Record]) -> None:
        """Their table has been loaded."""
        for record in records:
            self._totals.began_anew(record.workload.id)
