"""Rules that somebody else changed: noticed, the workload's link closed meanwhile (strict), loaded again, looked at."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

from jfe_cni.agent.installation import Installation
from jfe_cni.agent.log import fields
from jfe_cni.agent.metrics import Metrics
from jfe_cni.agent.roster import Record, Roster, set_trouble
from jfe_cni.agent.workload import Event, State
from jfe_cni.errors import JfeError
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.kernel.namespace import Namespace

# The time in which a workload that was just enrolled gets its watch.
_NEW_SECONDS = 0.1
# A new agent has hundreds of them, whose first look is not to hold up the takeover; what has changed is told all the
# same once the watch is there.
_NEW_AT_ONCE = 32
# What was not to be mended is tried again.
_RETRY_SECONDS = 1.0


class Watch:
    def __init__(
        self,
        *,
        roster: Roster,
        ground: KernelGround,
        installation: Installation,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._ground = ground
        self._installation = installation
        self._metrics = metrics
        self._log = log
        self._watched: dict[tuple[int, int], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled: one task a namespace, from enrolment to release."""
        try:
            while True:
                self._follow_roster()
                await asyncio.sleep(_NEW_SECONDS)
        finally:
            for task in self._watched.values():
                task.cancel()
            await asyncio.gather(*self._watched.values(), return_exceptions=True)

    async def look(self, record: Record) -> None:
        """Mends the workload's rules if they are not whole."""
        async with record.lock:
            # Whoever changes the rules on purpose holds the lock, so what is not as it should be now was another.
            if record.workload.state not in (State.COVERED, State.MENDING, State.CLOSED) or not self._roster.holds(
                record
            ):
                return
            try:
                if record.loaded or not await self._installation.stands(record):
                    if not record.loaded:
                        await self._installation.install(record)
                    record.missing = await self._installation.check(record)
                if record.missing:
                    await self._mend(record)
                elif record.link_closed or record.workload.state is State.MENDING:
                    await self._open(record)
            except JfeError as error:
                set_trouble(record, error)
                self._log.error("rules not mended", extra=fields(workload=record.workload.id, error=str(error)))

    async def _mend(self, record: Record) -> None:
        workload = record.workload
        self._log.warning(
            "rules-changed", extra=fields(workload=workload.id, missing="; ".join(record.missing), mode=workload.mode)
        )
        record.workload = workload.after(Event.RULES_CHANGED)
        unclosed = await self._close(record)
        await self._installation.install(record)
        # With the proof of what was loaded.
        self._roster.save_if_possible()
        self._metrics.rules_mended.inc()
        await self._open(record)
        self._log.info("rules mended", extra=fields(workload=workload.id))
        if unclosed is not None:
            # It was open while it had no rules. Said last, since what is proven is without trouble.
            set_trouble(record, unclosed)

    async def _close(self, record: Record) -> JfeError | None:
        """Why the link can't be closed, if so: no reason to leave the workload without rules as well."""
        try:
            await self._installation.close_link(record)
        except JfeError as error:
            self._log.error("link not closed", extra=fields(workload=record.workload.id, error=str(error)))
            return error
        return None

    async def _open(self, record: Record) -> None:
        await self._installation.open_link(record)
        if record.workload.state is State.MENDING:
            record.workload = record.workload.after(Event.PROVEN)

    def _follow_roster(self) -> None:
        records: dict[tuple[int, int], list[Record]] = {}
        for record in self._roster:
            identity = record.namespace.identity
            records.setdefault((identity.device, identity.inode), []).append(record)
        for key in [key for key in self._watched if key not in records or self._watched[key].done()]:
            self._watched.pop(key).cancel()
        new = (
            (key, watched)
            for key, watched in records.items()
            if key not in self._watched and any(record.workload.published for record in watched)
        )
        for key, watched in itertools.islice(new, _NEW_AT_ONCE):
            self._watched[key] = asyncio.create_task(self._follow(key, watched[0].namespace))

    async def _follow(self, key: tuple[int, int], namespace: Namespace) -> None:
        try:
            async with contextlib.aclosing(self._ground.changes(namespace)) as changes:  # type: ignore[type-var]
                async for _ in changes:
                    for record in self._of(key):
                        record.stirred = True
                        await self.look(record)
        except (JfeError, OSError) as error:
            # Looked at by the clock alone until a new watch is set up.
            self._log.warning("watch ended", extra=fields(error=str(error)))
            await asyncio.sleep(_RETRY_SECONDS)

    def _of(self, key: tuple[int, int]) -> list[Record]:
        found = [
            record
            for record in self._roster
            if (record.namespace.identity.device, record.namespace.identity.inode) == key and record.workload.published
        ]
        own = [record for record in found if record.workload.shape == "namespace"]
        # The host's workloads share one table: it is looked at once.
        return own + [record for record in found if record.workload.shape == "host"][:1]
