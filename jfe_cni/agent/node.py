"""The agent's parts, made and joined once; what the API asks for goes from here to the part that does it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from prometheus_client.registry import Collector

from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.attachments import Attachments
from jfe_cni.agent.connections import Connections
from jfe_cni.agent.control import Control
from jfe_cni.agent.directory import API, FILE, Directory, Key
from jfe_cni.agent.directory_watch import DirectoryWatch
from jfe_cni.agent.enrolment import Enroller
from jfe_cni.agent.examination import Examination
from jfe_cni.agent.flows.connections import ConnectionFlows
from jfe_cni.agent.flows.counts import FlowCounts
from jfe_cni.agent.flows.exporter import exporter_of
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.issuer import Issuer
from jfe_cni.agent.log import fields
from jfe_cni.agent.metrics import Metrics
from jfe_cni.agent.objects import DirectoryEntry, Enrolment
from jfe_cni.agent.passed import PassedTraffic
from jfe_cni.agent.publication import Publication
from jfe_cni.agent.renewal import Renewal
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.agent.restoration import Restoration
from jfe_cni.agent.roster import Roster
from jfe_cni.agent.settings import Settings
from jfe_cni.agent.state_file import SavedDirectory, StateFile
from jfe_cni.agent.stream import Stream
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.takeover import Takeover
from jfe_cni.agent.targets import Targets
from jfe_cni.agent.upgrader import Command
from jfe_cni.agent.upkeep import Upkeep
from jfe_cni.agent.views import Views
from jfe_cni.agent.watch import Watch
from jfe_cni.errors import HostError, JfeError, RequestError
from jfe_cni.identity.authority import Clock
from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules.model import Exemption

# How often it is looked for metrics of workloads that have gone.
_METRICS_SECONDS = 60.0


class Node:
    def __init__(
        self,
        *,
        settings: Settings,
        command: Command,
        issuer: Issuer,
        exemption: Exemption,
        nft: Nft,
        ground: KernelGround,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._log = log
        self._issuer = issuer
        mark = settings.packet_mark
        self._directory = Directory()
        self._state_file = StateFile(settings.state_file, log, settings.former_state_file)
        self._roster = Roster(self._state_file)
        self._metrics = Metrics(self._roster.reports)
        counts = FlowCounts()
        flows = None if settings.flows_to is None else ConnectionFlows(counts.unsent)
        self._stream = Stream(self._metrics, log, log_connections=settings.log_connections, flows=flows)
        self._exporter = None
        if flows is not None and settings.flows_to is not None:
            self._metrics.include(counts)
            self._exporter = exporter_of(
                *(settings, flows, counts),
                collector=settings.flows_to,
                ask_again=self._stream.ask_again,
                clock=clock,
                log=log,
            )
        self._publication = Publication(self._directory)
        self._announcement = Announcement(self._directory, self._publication, self._roster, log)
        cover = Cover(nft)
        self._passed = PassedTraffic(self._roster, ground)
        self._installation = Installation(
            cover=cover, ground=ground, roster=self._roster, passed=self._passed, mark=mark, exemption=exemption
        )
        refusals = self._metrics.certificate_refusals
        self._issuance = Issuance(
            issuer, self._roster, mark, clock, log, refused=lambda reason: refusals.labels(reason).inc()
        )
        self._takeover = Takeover(
            roster=self._roster,
            issuance=self._issuance,
            installation=self._installation,
            publication=self._publication,
            announcement=self._announcement,
            log=log,
        )
        self._supervisor = Supervisor(
            command,
            on_event=self._stream.take,
            feed=self._feed,
            lost=self._lost,
            restarted=self._metrics.upgrader_restarts.inc,
            log=log,
        )
        self._stream.supervisor = self._supervisor
        targets = Targets(ground, issuer.trust_domain, settings.node)
        self._enroller = Enroller(
            roster=self._roster,
            targets=targets,
            ground=ground,
            issuance=self._issuance,
            installation=self._installation,
            supervisor=self._supervisor,
            announcement=self._announcement,
            log=log,
        )
        self._watch = Watch(
            roster=self._roster, ground=ground, installation=self._installation, metrics=self._metrics, log=log
        )
        self._upkeep = Upkeep(
            roster=self._roster,
            targets=targets,
            ground=ground,
            issuance=self._issuance,
            installation=self._installation,
            enroller=self._enroller,
            announcement=self._announcement,
            supervisor=self._supervisor,
            watch=self._watch,
            log=log,
        )
        self._renewal = Renewal(issuer, self._issuance, self._takeover, self._supervisor, log)
        self.attachments = Attachments(
            roster=self._roster,
            enroller=self._enroller,
            examination=Examination(ground, self._installation, self._issuance),
            installation=self._installation,
            issuance=self._issuance,
            supervisor=self._supervisor,
            upkeep=self._upkeep,
            log=log,
        )
        self._restoration = Restoration(self._roster, targets, self._enroller, self._installation, cover, log)
        # One at a time: what one takes back must not be what another has pushed.
        self._pushing = asyncio.Lock()
        file = settings.directory_file
        self._directory_watch = (
            None
            if file is None
            else DirectoryWatch(file, self._directory, self._announcement, self._save_directory_if_possible, log)
        )
        self.views = Views(
            node=settings.node,
            roster=self._roster,
            passed=self._passed,
            directory=self._directory,
            installation=self._installation,
            supervisor=self._supervisor,
            issuer=issuer,
            troubles=self._troubles,
        )

    @property
    def connections(self) -> Connections:
        return self._stream.connections

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on by itself, each until it is cancelled."""
        work = [
            *(self._supervisor.run(), self._watch.run(), self._upkeep.run(), self._renewal.run()),
            self._sweep_metrics(),
        ]
        more = (self._directory_watch, self._exporter)
        return [*work, *(each.run() for each in more if each is not None)]

    async def take_back(self) -> None:
        """What a former agent enrolled. Its rules stand all the while."""
        workloads, saved = self._state_file.load()
        self._directory.replace(API, saved.pushed)
        if self._directory_watch is not None:
            # First: an agent that refuses to start for its sake has touched nothing.
            await self._directory_watch.begin(saved.file)
        await self._restoration.restore(workloads)
        self._save_directory_if_possible()

    async def release_all(self) -> None:
        """Nothing is left of any workload, nor of the upgrader."""
        await self._enroller.release_all()
        await self._supervisor.stop()

    def forget(self) -> None:
        """Nothing is left of what was saved."""
        self._state_file.remove()

    def close(self) -> None:
        """Nothing is saved any more."""
        self._state_file.close()

    async def enrol(self, enrolment: Enrolment) -> WorkloadReport:
        return await self._enroller.enrol(enrolment)

    async def unenrol(self, workload: str) -> None:
        await self._enroller.unenrol(workload)

    async def push(self, entries: list[DirectoryEntry]) -> None:
        async with self._pushing:
            before = self._directory.of_source(API)
            self._directory.put(API, entries)
            await self._publish_pushed(before)

    async def withdraw(self, keys: list[Key]) -> None:
        async with self._pushing:
            before = self._directory.of_source(API)
            known = {entry.key for entry in before}
            unknown = [key for key in keys if key not in known]
            if unknown:
                network, port = unknown[0]
                where = str(network) if port is None else f"{network} port {port}"
                raise RequestError(
                    f"no entry for {where} was pushed", remedy="see `jfe status` for the directory's entries"
                )
            self._directory.remove(API, keys)
            await self._publish_pushed(before)

    async def _publish_pushed(self, before: Iterable[DirectoryEntry]) -> None:
        """Saved only once the upgrader has taken it: what it refuses would be refused at each start again. Where it
        does, all is as `before`."""
        try:
            await self._publication.publish()
        except JfeError:
            self._directory.replace(API, before)
            # The file's entries may have been saved meanwhile, and these with them.
            self._save_directory_if_possible()
            await self._announcement.announce()
            raise
        self._state_file.save_directory(self._saved_directory())

    async def rotate(self, step: str) -> None:
        await self._issuer.rotate(step)
        self._log.info("authority rotated", extra=fields(step=step, phase=self._issuer.phase))
        await self._issuance.renew_due(await self._supervisor.control())

    def include_metrics(self, collector: Collector) -> None:
        self._metrics.include(collector)

    async def metrics(self) -> bytes:
        await self._passed.read_all()
        return self._metrics.text()

    def _saved_directory(self) -> SavedDirectory:
        file = None if self._directory_watch is None else self._directory.of_source(FILE)
        return SavedDirectory(self._directory.of_source(API), file)

    def _save_directory_if_possible(self) -> None:
        with contextlib.suppress(HostError):
            self._state_file.save_directory(self._saved_directory())

    async def _feed(self, control: Control) -> None:
        await self._takeover.feed(control, connections_wanted=self._stream.connections_wanted)

    async def _sweep_metrics(self) -> None:
        while True:
            await asyncio.sleep(_METRICS_SECONDS)
            self._metrics.sweep(asyncio.get_running_loop().time())

    def _lost(self) -> None:
        self._takeover.lost()
        self._stream.forget()

    def _troubles(self) -> list[str]:
        directory = None if self._directory_watch is None else self._directory_watch.trouble
        return [trouble for trouble in (directory, self._issuance.unable()) if trouble is not None]
