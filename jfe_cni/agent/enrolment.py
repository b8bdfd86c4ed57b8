"""Brings a workload under cover and releases it: one way in, every step with its undoing, and one way out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterator

from jfe_cni.agent import messages
from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.attachment import Container
from jfe_cni.agent.control import Control
from jfe_cni.agent.hazards import hazards
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import Enrolment
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.agent.roster import Record, Roster, report
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.targets import Targets
from jfe_cni.agent.undoing import to_its_end
from jfe_cni.agent.workload import Event, Workload
from jfe_cni.errors import JfeError, UpgraderError
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.cover import Prepared
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.rules.model import ConnectionTuple


class Enroller:
    def __init__(
        self,
        *,
        roster: Roster,
        targets: Targets,
        ground: KernelGround,
        issuance: Issuance,
        installation: Installation,
        supervisor: Supervisor,
        announcement: Announcement,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._targets = targets
        self._ground = ground
        self._issuance = issuance
        self._installation = installation
        self._supervisor = supervisor
        self._announcement = announcement
        self._log = log

    async def enrol(self, enrolment: Enrolment, container: Container | None = None) -> WorkloadReport:
        """Covered and proven when this returns; as if it had never been asked for when it raises."""
        record = await self._targets.record_of(enrolment, container)
        undo = contextlib.AsyncExitStack()
        undo.callback(record.namespace.close)
        try:
            self._roster.add(record)
            undo.callback(self._roster.save_if_possible)
            undo.callback(self._roster.remove, record)
            async with record.lock:
                # Saved before the kernel is touched: whoever is killed from here on leaves a note of what to undo.
                self._roster.save()
                await self._cover(record, undo)
                undo.push_async_callback(self._undone, "directory", record, lambda: self._withdraw(record))
                self._roster.advance(record, Event.PROVEN)
                await self._announcement.announce()
                if not _new(container):
                    # Upkeep looks once it has a process.
                    (record.hazards,) = await asyncio.to_thread(hazards, [record])
            # Nothing is waited for from here on: a caller that goes away before the answer has had all of it undone.
        except BaseException:
            # The record goes last: until then whoever asks meets it.
            await to_its_end(undo.aclose())
            raise
        self._log.info("enrolled", extra=fields(**_named(record)))
        return report(record)

    async def unenrol(self, name: str) -> None:
        """Nothing of the workload is left when this returns; where it raises, the same can be asked again."""
        await self.release(self._roster.get(name))

    async def release(self, record: Record) -> None:
        async with record.lock:
            await self.release_locked(record)

    async def release_locked(self, record: Record) -> None:
        """For who holds the record's lock. It needs no room on the disk: what can't be noted there the next agent finds
        out, and a full disk is when things are to be released."""
        if not self._roster.holds(record):
            return
        record.workload = record.workload.after(Event.RELEASE)
        self._roster.save_if_possible()
        await self._announcement.announce()
        await self._installation.remove(record)
        await self._forget(record)
        self._roster.remove(record)
        record.namespace.close()
        self._roster.save_if_possible()
        with self._logged("closed links not swept", record):
            await self._installation.sweep_links()
        # A port that it held may be another's now.
        await self._announcement.announce()
        self._log.info("unenrolled", extra=fields(**_named(record)))

    async def release_all(self) -> None:
        """Each for itself; what can't be released is logged and stays in the saved state."""
        for record in self._roster:
            with self._logged("not released", record):
                await self.release(record)

    async def discard(self, record: Record) -> None:
        """What a killed agent left half done goes. The host's table is one for all, and set right once all are back."""
        if record.workload.shape == "namespace":
            await self._undone("half-done enrolment", record, lambda: self._installation.remove(record))
        record.namespace.close()

    async def _cover(self, record: Record, undo: contextlib.AsyncExitStack) -> None:
        workload = record.workload
        survey = await self._ground.survey(record.namespace)
        # Before anything is to be undone: the undoing would take the other's rules.
        self._installation.refuse_anothers(record, survey.enrolled_as)
        record.workload = dataclasses.replace(workload, addresses=survey.addresses)
        undo.push_async_callback(self._undone, "upgrader", record, lambda: self._forget(record))
        undo.push_async_callback(self._undone, "rules", record, lambda: self._uninstall(record))
        control = await self._supervisor.control()
        # At once: the upgrader is waited for in the meantime.
        preparing = asyncio.create_task(self._installation.prepare(record))
        try:
            await self._issuance.give(record, control)
        except BaseException:
            preparing.cancel()
            # Whoever undoes what it has done must not be overtaken by it.
            await to_its_end(_settled(preparing))
            raise
        prepared = await preparing
        open_now: frozenset[ConnectionTuple] = frozenset()
        if not (survey.silent and _new(workload.container)):
            open_now = await self._ground.connections(record.namespace, workload.cgroup_number)
        if workload.mode == "permissive":
            record.workload = dataclasses.replace(record.workload, bare=tuple(sorted(open_now, key=str)))
        else:
            # Before there are rules: they would lead these sockets' last packet, the reset, to the loopback, and their
            # peers would never hear of the end.
            await self._end(record, open_now)
        record.workload = await with_listeners(self._ground, record)
        await self._installation.install(record, prepared)
        if workload.mode == "strict":
            # What was opened meanwhile can't say a word any more, and should know it.
            left = await self._ground.connections(record.namespace, workload.cgroup_number)
            await self._end(record, left)

    async def _end(self, record: Record, connections: frozenset[ConnectionTuple]) -> None:
        if connections:
            await self._ground.destroy(record.namespace, connections)

    async def _withdraw(self, record: Record) -> None:
        """The directory stops naming it before its rules go."""
        record.workload = record.workload.after(Event.RELEASE)
        await self._announcement.announce()

    async def _uninstall(self, record: Record) -> None:
        record.workload = dataclasses.replace(record.workload, listeners=None)
        await self._installation.remove(record)

    async def _forget(self, record: Record) -> None:
        """Without an upgrader there is nothing to say: the next one is never told of this workload."""
        if not self._supervisor.connected:
            return
        with contextlib.suppress(UpgraderError):
            control: Control = await self._supervisor.control()
            messages.expect_done(await control.ask(messages.remove_workload(record.workload.id)))

    async def _undone(self, what: str, record: Record, undoing: Callable[[], Awaitable[None]]) -> None:
        """One step that can't be undone must not keep the others from it."""
        with self._logged(f"{what} not undone", record):
            await undoing()

    @contextlib.contextmanager
    def _logged(self, what: str, record: Record) -> Iterator[None]:
        try:
            yield
        except JfeError as error:
            self._log.error(what, extra=fields(**_named(record), error=str(error)))


async def with_listeners(ground: KernelGround, record: Record) -> Workload:
    """The record's workload with the ports on which a host workload listens now, by its own sockets and by others'."""
    workload = record.workload
    if workload.cgroup is None or workload.cgroup_number is None:
        return workload
    own = await ground.listening(record.namespace, workload.cgroup_number)
    lent = await ground.listening_elsewhere(
        record.namespace, workload.cgroup_number, str(NFT_ROOT / workload.cgroup.path)
    )
    return dataclasses.replace(workload, listener_ports=tuple(sorted(own | lent)), lent_ports=tuple(sorted(lent)))


async def _settled(task: asyncio.Task[Prepared | None]) -> None:
    """What it failed of is told by what made it unwanted."""
    await asyncio.gather(task, return_exceptions=True)


def _new(container: Container | None) -> bool:
    """Made just now: its runtime starts no process in it before it is covered."""
    return container is not None and not container.ran_bare


def _named(record: Record) -> dict[str, object]:
    workload = record.workload
    return {"workload": workload.id, "identity": workload.identity, "mode": workload.mode, "shape": workload.shape}
