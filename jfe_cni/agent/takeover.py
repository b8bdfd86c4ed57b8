"""What a new connection to an upgrader is told, be it the one that a former agent left or one just started: everything
that should exist, and that this was all. Rules follow where listeners changed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from jfe_cni.agent import messages
from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.control import Control
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.log import fields
from jfe_cni.agent.publication import Publication
from jfe_cni.agent.roster import Record, Roster, set_trouble
from jfe_cni.agent.workload import Event, State
from jfe_cni.errors import JfeError, UpgraderError

# A workload in these states is brought, or taken, by whoever put it there.
_NOT_OURS = frozenset({State.ENROLLING, State.RELEASING})
# How many workloads are brought at the same time: each waits for the upgrader, for the kernel, or for `nft`.
_AT_ONCE = 8

T = TypeVar("T")


class Takeover:
    def __init__(
        self,
        *,
        roster: Roster,
        issuance: Issuance,
        installation: Installation,
        publication: Publication,
        announcement: Announcement,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._issuance = issuance
        self._installation = installation
        self._publication = publication
        self._announcement = announcement
        self._log = log
        # Those that could not be brought, and are tried again.
        self._left: set[Record] = set()

    async def feed(self, control: Control, *, connections_wanted: bool) -> None:
        """Raises UpgraderError where the connection ends meanwhile; a workload that fails is logged and left closed."""
        ready = [record for record in await _at_once(partial(self._bring, control), self._roster) if record is not None]
        self._announcement.gather()
        await self._publication.begin(control)
        if connections_wanted:
            messages.expect_done(await control.ask(messages.WANT_CONNECTIONS))
        messages.expect_done(await control.ask(messages.SNAPSHOT_SENT))
        await _at_once(self._open, ready)
        self._announcement.gather()
        await self._publication.publish()
        covered = sum(record.workload.state is State.COVERED for record in ready)
        self._log.info("upgrader knows all", extra=fields(covered=covered, workloads=len(list(self._roster))))
        self._roster.save_if_possible()

    def lost(self) -> None:
        """The rules stand, and let nothing through."""
        for record in self._roster:
            if record.workload.published:
                record.workload = record.workload.after(Event.UPGRADER_LOST)

    async def bring_left(self, control: Control) -> None:
        """What `feed` could not bring, for want of a certificate for one. Raises UpgraderError, as `feed` does."""
        if not self._left or self._issuance.deferred() is not None:
            return
        for record in list(self._left):
            if await self._bring(control, record) is not None:
                await self._open(record)
                await self._announcement.announce()
                self._roster.save_if_possible()

    async def _bring(self, control: Control, record: Record) -> Record | None:
        self._left.discard(record)
        if record.workload.state in _NOT_OURS:
            # Whoever holds its lock may be waiting for this very upgrader.
            return None
        async with record.lock:
            workload = record.workload
            if workload.state in _NOT_OURS or not self._roster.holds(record):
                return None
            kept = None
            try:
                kept = messages.listeners_of(await control.ask(messages.keep(workload.id)))
                if kept is not None:
                    record.workload = dataclasses.replace(record.workload, listeners=kept)
                if kept is None:
                    deferred = self._issuance.deferred()
                    if deferred is not None:
                        raise deferred
                    await self._issuance.give(record, control)
            except UpgraderError:
                raise
            except JfeError as error:
                self._failed(record, error)
                self._left.add(record)
                return None
            if kept is not None and self._issuance.due(workload):
                # What it has goes on, and this is tried again.
                await self._issuance.renew_locked(record, control)
            return record

    async def _open(self, record: Record) -> None:
        """Rules for the listeners as they are now, loaded unless it is proved that they are these already."""
        async with record.lock:
            workload = record.workload
            if workload.state in (*_NOT_OURS, State.ABSENT) or not self._roster.holds(record):
                return
            try:
                if not await self._installation.stands(record):
                    await self._installation.install(record)
                # The agent before may have been killed while it held the link closed.
                await self._installation.open_link(record)
            except JfeError as error:
                self._failed(record, error)
            else:
                record.workload = record.workload.after(Event.PROVEN)

    def _failed(self, record: Record, error: JfeError) -> None:
        set_trouble(record, error)
        with contextlib.suppress(JfeError):
            record.workload = record.workload.after(Event.UPGRADER_LOST)
        self._log.error("workload stays closed", extra=fields(workload=record.workload.id, error=str(error)))


async def _at_once(what: Callable[[Record], Awaitable[T]], records: Iterable[Record]) -> list[T]:
    """`what` of each, some at a time. The first that raises ends the others, and is raised when they have ended."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(record: Record) -> T:
        async with gate:
            return await what(record)

    tasks = [asyncio.create_task(one(record)) for record in records]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
