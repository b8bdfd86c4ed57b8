"""The upgrader's events for whoever wants them: counters to the metrics, connections to followers and the log."""

from __future__ import annotations

import logging

from jfe_cni.agent import messages
from jfe_cni.agent.connections import Connections
from jfe_cni.agent.log import connection_fields, fields
from jfe_cni.agent.messages import ConnectionEventsLost, Counters, Event, WorkerReplaced
from jfe_cni.agent.metrics import Metrics
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.agent.supervisor import Supervisor


class Stream:
    """`supervisor` is set once, before the first event: the two need each other."""

    supervisor: Supervisor

    def __init__(self, metrics: Metrics, log: logging.Logger, *, log_connections: bool) -> None:
        self.connections = Connections(self._want)
        self._metrics = metrics
        self._log = log
        self._log_connections = log_connections

    @property
    def connections_wanted(self) -> bool:
        return self._log_connections or self.connections.wanted

    def take(self, event: Event) -> None:
        match event:
            case Counters():
                self._metrics.take(event)
            case ConnectionReport():
                self.connections.take(event)
                if self._log_connections and event.phase == "closed":
                    self._log.info("connection", extra=connection_fields(event))
            case WorkerReplaced(worker):
                self._metrics.worker_restarts.inc()
                self._log.warning("worker replaced; its connections were reset", extra=fields(worker=worker))
            case ConnectionEventsLost(count):
                self._log.warning("connection events lost", extra=fields(count=count))

    async def _want(self, *, wanted: bool) -> None:
        """Where the log wants them all they are never unwanted; asked for again they bring those open now."""
        if not wanted and self._log_connections:
            return
        control = await self.supervisor.control()
        word = messages.WANT_CONNECTIONS if wanted else messages.UNWANT_CONNECTIONS
        messages.expect_done(await control.ask(word))
