"""The upgrader's events for whoever wants them: counters to the metrics, connections to followers, the log, flows."""

from __future__ import annotations

import logging
import time

from jfe_cni.agent import messages
from jfe_cni.agent.connections import Connections
from jfe_cni.agent.flows.connections import ConnectionFlows
from jfe_cni.agent.log import connection_fields, fields
from jfe_cni.agent.messages import ConnectionEventsLost, Counters, Event, WorkerReplaced
from jfe_cni.agent.metrics import Metrics
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.agent.supervisor import Supervisor


class Stream:
    """`supervisor` is set once, before the first event: the two need each other. `flows`: None where none are told."""

    supervisor: Supervisor

    def __init__(
        self, metrics: Metrics, log: logging.Logger, *, log_connections: bool, flows: ConnectionFlows | None
    ) -> None:
        self.connections = Connections(self._want)
        self._metrics = metrics
        self._log = log
        self._log_connections = log_connections
        self._flows = flows

    @property
    def connections_wanted(self) -> bool:
        return self._wanted_always or self.connections.wanted

    @property
    def _wanted_always(self) -> bool:
        return self._log_connections or self._flows is not None

    def take(self, event: Event) -> None:
        match event:
            case Counters():
                self._metrics.take(event)
            case ConnectionReport():
                if self.connections.wanted:
                    self.connections.take(event)
                if self._flows is not None:
                    self._flows.take(event, _now())
                if self._log_connections and event.phase == "closed":
                    self._log.info("connection", extra=connection_fields(event))
            case WorkerReplaced(worker):
                self._metrics.worker_restarts.inc()
                if self._flows is not None:
                    self._flows.forget(_now(), worker)
                self._log.warning("worker replaced; its connections were reset", extra=fields(worker=worker))
            case ConnectionEventsLost(count):
                self._log.warning("connection events lost", extra=fields(count=count))
                if self._flows is not None:
                    self._flows.lost(count)

    def forget(self) -> None:
        """The upgrader is gone, and its connections with it."""
        self.connections.forget()
        if self._flows is not None:
            self._flows.forget(_now())

    async def ask_again(self) -> None:
        """The upgrader names the connections that are open now, with what they have carried. Raises UpgraderError."""
        await self._want(wanted=True)

    async def _want(self, *, wanted: bool) -> None:
        """Where the log or flows want them all they are never unwanted; asked for again they bring those open now."""
        if not wanted and self._wanted_always:
            return
        control = await self.supervisor.control()
        word = messages.WANT_CONNECTIONS if wanted else messages.UNWANT_CONNECTIONS
        messages.expect_done(await control.ask(word))


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
