"""Containers as their runtime brings and takes them: an interface at a time, and whatever comes between the two."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from jfe_cni.agent.attachment import Attachment, Container
from jfe_cni.agent.enrolment import Enroller
from jfe_cni.agent.examination import Examination
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import Enrolment
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.upkeep import Upkeep
from jfe_cni.agent.workload import State
from jfe_cni.errors import ConflictError, UpgraderError
from jfe_cni.kernel.processes import number_at

Key = tuple[str, str]
"""Container and interface. No two networks give one container the same interface."""


class Attachments:
    def __init__(
        self,
        *,
        roster: Roster,
        enroller: Enroller,
        examination: Examination,
        supervisor: Supervisor,
        upkeep: Upkeep,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._enroller = enroller
        self._examination = examination
        self._supervisor = supervisor
        self._upkeep = upkeep
        self._log = log
        self._attaching: dict[Key, asyncio.Task[None]] = {}

    async def attach(self, enrolment: Enrolment, container: Container) -> None:
        """Covered when this returns. `container` has one attachment; said again of the same namespace it changes
        nothing, and another interface of a namespace that is covered joins the others.

        Raises ConflictError where the same is being attached, or was detached meanwhile; JfeError as `Enroller.enrol`.
        Cancelled, it has undone whatever it did."""
        (attachment,) = container.attachments
        key = (attachment.container, attachment.interface)
        if key in self._attaching:
            raise ConflictError(f"{_words(key)} is being added this moment", remedy="wait until that is done")
        task = asyncio.create_task(self._attach(enrolment, container, attachment))
        self._attaching[key] = task
        try:
            await task
        except asyncio.CancelledError:
            # By `detach`, and not because whoever asked went away.
            if task.cancelled() and not _being_cancelled():
                raise ConflictError(
                    f"{_words(key)} was removed while it was being added", remedy="add it again"
                ) from None
            raise
        finally:
            del self._attaching[key]

    async def detach(self, container: str, interface: str) -> None:
        """Nothing of it is left when this returns, be it that there never was, or that it is being attached."""
        attaching = self._attaching.get((container, interface))
        if attaching is not None:
            attaching.cancel()
            await asyncio.wait([attaching])
        for record in self._roster:
            held = record.workload.container
            if held is not None and held.holds(container, interface):
                await self._leave(record, container, interface)

    def holds(self, container: str, interface: str) -> bool:
        return any(
            record.workload.container is not None and record.workload.container.holds(container, interface)
            for record in self._roster
        )

    async def amiss(self, container: str, interface: str) -> tuple[str, ...] | None:
        """What is not as `attach` left it, a sentence each; None: no such attachment is known."""
        for record in self._roster:
            held = record.workload.container
            if held is not None and held.holds(container, interface):
                return await self._examination.amiss(record)
        return None

    def of_network(self, network: str) -> list[Attachment]:
        """Those that are whole: one that is being attached is not among them."""
        return [
            attachment
            for record in self._roster
            if record.workload.container is not None and record.workload.state is not State.ENROLLING
            for attachment in record.workload.container.attachments
            if attachment.network == network
        ]

    def unable(self) -> tuple[str, bool] | None:
        """Why nothing can be attached at present, and whether those that are enrolled suffer as well; None: it can."""
        if self._supervisor.connected:
            return None
        suffering = any(record.workload.published for record in self._roster)
        return f"there is no upgrader: {self._supervisor.trouble or 'it is being started'}", suffering

    async def _attach(self, enrolment: Enrolment, container: Container, attachment: Attachment) -> None:
        record = self._container_in(number_at(enrolment.target.value))
        if record is None:
            await self._enroller.enrol(enrolment, container)
            return
        async with record.lock:
            if not self._roster.holds(record) or record.workload.state is State.RELEASING:
                raise ConflictError(f"{record.workload.id} is being released", remedy="add it again")
            if record.workload.state is not State.COVERED:
                raise UpgraderError(f"{record.workload.id} is {record.workload.state.value}", remedy="add it again")
            held = record.workload.container
            if held is None or held.holds(attachment.container, attachment.interface):
                return
            more = dataclasses.replace(held, attachments=(*held.attachments, attachment))
            self._roster.put(record, dataclasses.replace(record.workload, container=more))
            # Its certificate names the new interface's addresses before anybody may use them.
            await self._upkeep.refresh(record)
        self._log.info("attached", extra=fields(workload=record.workload.id, interface=attachment.interface))

    async def _leave(self, record: Record, container: str, interface: str) -> None:
        async with record.lock:
            held = record.workload.container
            if held is None or not self._roster.holds(record):
                return
            left = held.without(container, interface)
            if left.attachments:
                self._roster.put(record, dataclasses.replace(record.workload, container=left))
                return
        await self._enroller.release(record)

    def _container_in(self, namespace: tuple[int, int] | None) -> Record | None:
        for record in self._roster:
            if namespace is not None and record.workload.namespace == namespace and record.workload.container:
                return record
        return None


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _words(key: Key) -> str:
    container, interface = key
    return f"{interface} of container {container}"
