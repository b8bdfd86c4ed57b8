"""What a former agent enrolled is taken back at the start, and what it left half done is taken away."""

from __future__ import annotations

import dataclasses
import logging

from jfe_cni.agent.enrolment import Enroller
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.log import fields
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.targets import Targets
from jfe_cni.agent.workload import State, Workload
from jfe_cni.errors import ConflictError, NamespaceGone
from jfe_cni.kernel.cover import Cover
from jfe_cni.rules import host

_HALF_DONE = frozenset({State.ENROLLING, State.RELEASING})


class Restoration:
    def __init__(
        self,
        roster: Roster,
        targets: Targets,
        enroller: Enroller,
        installation: Installation,
        cover: Cover,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._targets = targets
        self._enroller = enroller
        self._installation = installation
        self._cover = cover
        self._log = log

    async def restore(self, workloads: list[Workload]) -> None:
        """Raises ConflictError where rules of the host are in place that belong to another agent."""
        swept = await self._refuse_strangers_rules(workloads)
        for workload in workloads:
            await self._restore_one(workload)
        if swept:
            await self._installation.sweep_host()
        await self._installation.sweep_links()
        self._roster.save()

    async def _restore_one(self, workload: Workload) -> None:
        try:
            record = await self._targets.taken_back(workload)
        except NamespaceGone as error:
            self._log.info("namespace-gone", extra=fields(workload=workload.id, error=str(error)))
            return
        if await self._is_anothers(record):
            self._log.info("namespace-gone", extra=fields(workload=workload.id))
            record.namespace.close()
            return
        if workload.state in _HALF_DONE:
            self._log.warning("half-done enrolment removed", extra=fields(workload=workload.id))
            await self._enroller.discard(record)
            return
        record.workload = dataclasses.replace(workload, state=State.CLOSED)
        # The agent before may have been killed while it held it closed.
        record.link_closed = workload.shape == "namespace"
        if workload.shape == "host":
            found = self._targets.cgroup_again(workload)
            if found is None and self._targets.made_for_one_run(workload):
                self._log.info("cgroup-gone", extra=fields(workload=workload.id))
                record.namespace.close()
                return
            same = found is not None and found[1] == workload.cgroup_number
            state = State.CLOSED if same else State.ABSENT
            number = workload.cgroup_number if same else None
            record.workload = dataclasses.replace(record.workload, state=state, cgroup_number=number)
        self._roster.add(record)
        self._log.info("taken back", extra=fields(workload=workload.id, state=record.workload.state.value))

    async def _is_anothers(self, record: Record) -> bool:
        """A namespace that was found by its number alone must have the workload's rules."""
        if record.workload.shape == "host" or self._targets.found_by_name(record):
            return False
        return await self._cover.enrolled_as(record.namespace) != record.workload.id

    async def _refuse_strangers_rules(self, workloads: list[Workload]) -> bool:
        """The host's table is one: to load ours would take the cover from workloads that another agent enrolled.

        Whether there is such a table."""
        ours = {workload.id for workload in workloads}
        found = False
        for tagged in await self._cover.list_tagged():
            if tagged.kind == "table" and tagged.what == f"{host.FAMILY} {host.TABLE}":
                found = True
                strangers = sorted(set(tagged.workloads) - ours)
                if strangers:
                    raise ConflictError(
                        f"another agent has {', '.join(strangers)} under cover on this host",
                        remedy="start that agent (its --state-dir), or, if its state is lost: "
                        f"nft delete table {host.FAMILY} {host.TABLE}",
                    )
        return found
