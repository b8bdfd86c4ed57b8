"""What nobody announces and is looked at by the clock: addresses, bare connections, listeners, cgroups that come and
go, namespaces that have vanished, and every rule once more."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from jfe_cni.agent import messages
from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.enrolment import Enroller, with_listeners
from jfe_cni.agent.hazards import hazards
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.log import fields
from jfe_cni.agent.roster import Record, Roster, set_trouble
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.targets import Targets, vanished
from jfe_cni.agent.watch import Watch
from jfe_cni.agent.workload import Event, State
from jfe_cni.errors import JfeError
from jfe_cni.kernel.ground import KernelGround

# A unit that restarts is without cover until it is seen, so this is short; a look costs a few system calls a workload.
PERIOD_SECONDS = 0.5
# A workload's listeners are looked at every so many of these turns: that they end without the upgrader is rare.
_ROUNDS = 6
# Rules that nobody reported as changed are looked at every so many periods.
_SELDOM = 10


class Upkeep:
    def __init__(
        self,
        *,
        roster: Roster,
        targets: Targets,
        ground: KernelGround,
        issuance: Issuance,
        installation: Installation,
        enroller: Enroller,
        announcement: Announcement,
        supervisor: Supervisor,
        watch: Watch,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._targets = targets
        self._ground = ground
        self._issuance = issuance
        self._installation = installation
        self._enroller = enroller
        self._announcement = announcement
        self._supervisor = supervisor
        self._watch = watch
        self._log = log

    async def run(self) -> None:
        """Until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            turn += 1
            records = list(self._roster)
            gone = await asyncio.to_thread(vanished, records)
            for record in records:
                if turn % _SELDOM == 0:
                    # Nothing is left to notifications alone.
                    record.stirred = True
                await self._attend(record, gone=record in gone)
            if turn % _SELDOM == 0:
                for at, record in enumerate(records):
                    await self._watch.look(record)
                    if at % _ROUNDS == turn // _SELDOM % _ROUNDS:
                        await self._listen_again(record)
                for record, found in zip(records, await asyncio.to_thread(hazards, records), strict=True):
                    record.hazards = found

    async def _attend(self, record: Record, *, gone: bool) -> None:
        try:
            if record.workload.state is State.ENROLLING:
                return
            if record.workload.state is State.RELEASING:
                # What failed is tried again, unless somebody is at it this moment.
                if not record.lock.locked():
                    await self._enroller.release(record)
                return
            if gone or self._cgroup_is_gone(record):
                self._log.info("workload-gone", extra=fields(workload=record.workload.id))
                await self._enroller.release(record)
                return
            async with record.lock:
                if self._roster.holds(record):
                    await self.refresh(record)
        except JfeError as error:
            set_trouble(record, error)
            self._log.warning("upkeep failed", extra=fields(workload=record.workload.id, error=str(error)))

    def _cgroup_is_gone(self, record: Record) -> bool:
        """For good, that is: a unit's cgroup, or one that somebody else made, may come back."""
        made = record.workload.shape == "host" and self._targets.made_for_one_run(record.workload)
        return made and self._targets.cgroup_again(record.workload) is None

    async def refresh(self, record: Record) -> None:
        """What is known of it is as it is now, its certificate and its rules, too. For who holds the record's lock."""
        before = record.workload
        if before.shape == "host":
            await self._follow_cgroup(record)
        quiet = before.shape == "namespace" and not record.stirred and not before.bare
        if quiet or not record.workload.published:
            return
        addresses = before.addresses
        if record.stirred or before.shape == "host":
            # Before it is looked at: what happens meanwhile is looked at the next time.
            record.stirred = False
            addresses = await self._ground.addresses(record.namespace)
        workload = dataclasses.replace(await with_listeners(self._ground, record), addresses=addresses)
        if workload.bare:
            still = await self._ground.connections(record.namespace, workload.cgroup_number)
            workload = dataclasses.replace(workload, bare=tuple(each for each in workload.bare if each in still))
        if workload == before:
            return
        try:
            self._roster.put(record, workload)
            # Without an upgrader it stays due, as it does where it fails: see `Renewal`.
            if workload.addresses != before.addresses and self._supervisor.connected:
                await self._issuance.renew_locked(record, await self._supervisor.control())
            if (workload.bare, workload.lent_ports) != (before.bare, before.lent_ports):
                await self._installation.install(record)
                self._roster.save()
        finally:
            # Whatever failed, the directory says where the workload is.
            await self._announcement.announce()

    async def _listen_again(self, record: Record) -> None:
        """Whoever has CAP_NET_ADMIN in a namespace can end listeners there (sock_diag), and the upgrader hears nothing
        of it. The rules let nothing through meanwhile."""
        try:
            async with record.lock:
                wanted = record.workload.listeners
                if record.workload.state is not State.COVERED or wanted is None or not self._roster.holds(record):
                    return
                if {wanted.outbound, wanted.inbound} <= await self._ground.upgrader_listening(record.namespace):
                    return
                self._log.warning("listeners-gone", extra=fields(workload=record.workload.id))
                control = await self._supervisor.control()
                messages.expect_done(await control.ask(messages.remove_workload(record.workload.id)))
                await self._issuance.give(record, control)
                await self._installation.install(record)
                self._roster.save()
        except JfeError as error:
            set_trouble(record, error)
            self._log.error("listeners not made again", extra=fields(workload=record.workload.id, error=str(error)))

    async def _follow_cgroup(self, record: Record) -> None:
        """A cgroup that is made anew has another number, and rules that name the old one match it no more."""
        found = self._targets.cgroup_again(record.workload)
        number = None if found is None else found[1]
        if number == record.workload.cgroup_number:
            return
        if found is None:
            self._log.info("cgroup-gone", extra=fields(workload=record.workload.id))
            gone = dataclasses.replace(record.workload.after(Event.VANISHED), cgroup_number=None, bare=())
            self._roster.put(record, gone)
            await self._installation.sync_host()
            await self._announcement.announce()
            return
        back = dataclasses.replace(record.workload, cgroup=found[0], cgroup_number=number, bare=())
        record.workload = back.after(Event.PROVEN) if back.listeners is not None else back
        await self._installation.install(record)
        self._roster.save()
        self._log.info("cgroup-back", extra=fields(workload=record.workload.id))
