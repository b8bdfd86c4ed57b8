"""The node's own flows on their way to a collector: gathered, told in slices, sent, counted. Nothing waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from jfe_cni.agent.flows.collector import CollectorLink
from jfe_cni.agent.flows.connections import ConnectionFlows
from jfe_cni.agent.flows.conntrack import Conntrack
from jfe_cni.agent.flows.counts import FlowCounts
from jfe_cni.agent.flows.flow import Flow, Milliseconds, Origin
from jfe_cni.agent.flows.ipfix import Encoder
from jfe_cni.agent.flows.tracked import Tracked
from jfe_cni.agent.log import fields
from jfe_cni.agent.settings import Settings
from jfe_cni.errors import JfeError
from jfe_cni.identity.authority import Clock

# How often what has ended is sent.
_TURN_SECONDS = 1.0
# The upgrader's workers answer on their own; those that take longer are told of in the next slice.
_SETTLE_SECONDS = 0.5
# An agent that ends tells what it has gathered, and waits no longer for that.
_END_SECONDS = 2.0
# A node is one observation domain: its own connections and those that pass it (RFC 7011, section 2).
_DOMAIN = 1


class FlowExporter:
    """`ask_again` makes the upgrader name its open connections, and raises JfeError where there is none. `clock`:
    seconds since the epoch. `every`: seconds from one slice of a long flow to the next."""

    def __init__(
        self,
        *,
        connections: ConnectionFlows,
        conntrack: Conntrack,
        link: CollectorLink,
        counts: FlowCounts,
        ask_again: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        every: float,
        log: logging.Logger,
    ) -> None:
        self._connections = connections
        self._conntrack = conntrack
        self._link = link
        self._counts = counts
        self._ask_again = ask_again
        self._clock = clock
        self._every = every
        self._log = log
        self._waiting: dict[Origin, list[Flow]] = {origin: [] for origin in Origin}
        counts.remembered = self._remembered
        counts.absent = lambda: conntrack.absent

    async def run(self) -> None:
        """Until cancelled; then what has been gathered is sent."""
        try:
            await self._slices()
            while True:
                due = asyncio.get_running_loop().time() + self._every
                while asyncio.get_running_loop().time() < due:
                    await asyncio.sleep(min(_TURN_SECONDS, self._every))
                    await self._ended()
                await self._slices()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await self._gathered()
            self._link.close()
            await asyncio.to_thread(self._conntrack.close)
            sent = sum(self._counts.sent.values())
            self._log.info("flows are told no more", extra=fields(sent=sent))

    async def _ended(self) -> None:
        self._waiting[Origin.UPGRADER] += self._connections.ended()
        await self._read(self._conntrack.ended)
        await self._send()

    async def _slices(self) -> None:
        self._connections.begin_round()
        # Without an upgrader there are no connections; the next one names its own.
        with contextlib.suppress(JfeError):
            await self._ask_again()
            await asyncio.sleep(_SETTLE_SECONDS)
        await self._gathered()

    async def _gathered(self) -> None:
        self._waiting[Origin.UPGRADER] += self._connections.slices(self._now())
        await self._read(self._conntrack.look)
        # After the look: what ended during it is not missing from both.
        await self._read(self._conntrack.ended)
        await self._send()

    async def _read(self, ask: Callable[[Milliseconds], list[Flow]]) -> None:
        """Cancelled, it waits for the thread all the same: two at once would count the same packets."""
        reading = asyncio.create_task(asyncio.to_thread(ask, self._now()))
        try:
            await asyncio.shield(reading)
        finally:
            if not reading.done():
                await asyncio.wait([reading])
            self._waiting[Origin.CONNTRACK] += reading.result()

    async def _send(self) -> None:
        for origin in Origin:
            flows, self._waiting[origin] = self._waiting[origin], []
            await self._link.send(flows, origin, self._clock())

    def _now(self) -> Milliseconds:
        return int(self._clock() * 1000)

    def _remembered(self, origin: Origin) -> int:
        return len(self._connections if origin is Origin.UPGRADER else self._conntrack)


def exporter_of(
    settings: Settings,
    connections: ConnectionFlows,
    counts: FlowCounts,
    *,
    collector: tuple[str, int],
    ask_again: Callable[[], Awaitable[None]],
    clock: Clock,
    log: logging.Logger,
) -> FlowExporter:
    """With all its parts."""
    tracked = Tracked(connections.covers, counts.unsent)
    return FlowExporter(
        connections=connections,
        conntrack=Conntrack(tracked, counts.unsent, settings.flows_conntrack, log),
        link=CollectorLink(collector, Encoder(_DOMAIN), counts),
        counts=counts,
        ask_again=ask_again,
        clock=lambda: clock().timestamp(),
        every=settings.flows_every,
        log=log,
    )
