"""Containers as their runtime brings and takes them: an interface at a time, and whatever comes between the two."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from jfe_cni.agent.attachment import Attachment, Container
from jfe_cni.agent.enrolment import Enroller
from jfe_cni.agent.examination import Examination
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import Enrolment
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.undoing import to_its_end
from jfe_cni.agent.upkeep import Upkeep
from jfe_cni.agent.workload import State
from jfe_cni.errors import BusyError, ConflictError, IdentityError, UpgraderError
from jfe_cni.kernel.processes import number_at

Key = tuple[str, str]
"""Container and interface."""


class Attachments:
    def __init__(
        self,
        *,
        roster: Roster,
        enroller: Enroller,
        examination: Examination,
        installation: Installation,
        issuance: Issuance,
        supervisor: Supervisor,
        upkeep: Upkeep,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._enroller = enroller
        self._examination = examination
        self._installation = installation
        self._issuance = issuance
        self._supervisor = supervisor
        self._upkeep = upkeep
        self._log = log
        self._attaching: dict[Key, asyncio.Task[bool]] = {}

    async def attach(self, enrolment: Enrolment, container: Container) -> None:
        """Covered when this returns. `container` has one attachment; said again it changes nothing, and another
        interface of a container that is covered joins the others.

        Raises BusyError where the same is being attached or released, ConflictError where it was detached meanwhile;
        JfeError as `Enroller.enrol`. Cancelled, it has undone whatever it did."""
        (attachment,) = container.attachments
        key = (attachment.container, attachment.interface)
        if key in self._attaching:
            raise BusyError(f"{_words(key)} is being added, or that undone, this moment", remedy="try again")
        task = asyncio.create_task(self._attach(enrolment, container, attachment))
        self._attaching[key] = task
        try:
            await task
        except asyncio.CancelledError:
            if not _being_cancelled():
                # By `detach`, and not because whoever asked went away.
                raise ConflictError(
                    f"{_words(key)} was removed while it was being added", remedy="add it again"
                ) from None
            if not task.cancelled() and task.exception() is None and task.result():
                # It was done in the moment in which its caller went away.
                await to_its_end(self._leave_all(attachment))
            raise
        finally:
            del self._attaching[key]

    async def detach(self, attachment: Attachment) -> None:
        """Nothing of it is left when this returns, be it that there never was, or that it is being attached."""
        attaching = self._attaching.get((attachment.container, attachment.interface))
        if attaching is not None:
            attaching.cancel()
            await asyncio.wait([attaching])
        await self._leave_all(attachment)

    def holds(self, attachment: Attachment) -> bool:
        return self._holder(attachment) is not None

    async def amiss(self, attachment: Attachment) -> tuple[str, ...] | None:
        """What is not as `attach` left it, a sentence each; None: no such attachment is known."""
        record = self._holder(attachment)
        return None if record is None else await self._examination.amiss(record)

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
        if not self._supervisor.connected:
            suffering = any(record.workload.published for record in self._roster)
            return f"there is no upgrader: {self._supervisor.trouble or 'it is being started'}", suffering
        unable = self._issuance.unable()
        return None if unable is None else (unable, False)

    async def _attach(self, enrolment: Enrolment, container: Container, attachment: Attachment) -> bool:
        """Whether anything was changed."""
        record = self._container_in(number_at(enrolment.target.value))
        if record is not None and record.workload.container is not None:
            if record.workload.container.id == attachment.container:
                return await self._join(record, attachment)
            # A runtime that gives a namespace to another container has deleted the one before, heard or unheard.
            self._log.warning("container replaced", extra=fields(workload=record.workload.id))
            await self._enroller.release(record)
        await self._enroller.enrol(enrolment, container)
        return True

    async def _join(self, record: Record, attachment: Attachment) -> bool:
        async with record.lock:
            workload, held = record.workload, record.workload.container
            if held is None or not self._roster.holds(record) or workload.state is State.RELEASING:
                raise BusyError(f"{workload.id} is being released", remedy="try again")
            if workload.state is not State.COVERED:
                raise UpgraderError(f"{workload.id} is {workload.state.value}", remedy="try again")
            if attachment in held.attachments:
                return False
            more = dataclasses.replace(held, attachments=(*held.attachments, attachment))
            record.workload = dataclasses.replace(workload, container=more)
            try:
                self._roster.save()
                # The new interface has its routes, and its addresses are named by the certificate, before anybody may
                # use them: the watch of the namespace would see to it some moments later.
                await self._installation.prepare(record)
                record.stirred = True
                await self._upkeep.refresh(record)
                unnamed = await self._examination.certificate_amiss(record)
                if unnamed:
                    raise IdentityError("; ".join(unnamed), remedy=record.uncertified or "try again")
            except BaseException:
                record.workload = dataclasses.replace(record.workload, container=held)
                self._roster.save_if_possible()
                raise
        self._log.info("attached", extra=fields(workload=record.workload.id, interface=attachment.interface))
        return True

    async def _leave_all(self, attachment: Attachment) -> None:
        for record in self._roster:
            async with record.lock:
                held = record.workload.container
                if held is None or not held.holds(attachment) or not self._roster.holds(record):
                    continue
                left = held.without(attachment)
                if left.attachments:
                    record.workload = dataclasses.replace(record.workload, container=left)
                    self._roster.save_if_possible()
                else:
                    await self._enroller.release_locked(record)

    def _holder(self, attachment: Attachment) -> Record | None:
        for record in self._roster:
            if record.workload.container is not None and record.workload.container.holds(attachment):
                return record
        return None

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
