"""The way to the collector: a UDP socket, which waits for nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from jfe_cni.agent.flows.counts import FlowCounts
from jfe_cni.agent.flows.flow import Flow, Origin
from jfe_cni.agent.flows.ipfix import Encoder, Message
from jfe_cni.agent.flows.unsent import Unsent

# How often a collector's name is looked up anew.
_RESOLVE_SECONDS = 60.0
# Of messages at once; a receiver's buffer of the kernel's default size (net.core.rmem_default) holds some hundred.
_BURST = 32
_PAUSE_SECONDS = 0.01


class CollectorLink:
    """`collector`: (name or address, port)."""

    def __init__(self, collector: tuple[str, int], encoder: Encoder, counts: FlowCounts) -> None:
        self._collector = collector
        self._encoder = encoder
        self._counts = counts
        self._socket: socket.socket | None = None
        self._address: object = None
        self._resolve_at = float("-inf")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def send(self, flows: Sequence[Flow], origin: Origin, now: float) -> None:
        """All of them, or counted why not, cancelled or not; templates first where it is time. `now`: seconds since the
        epoch."""
        connected: socket.socket | None = None
        try:
            connected = await self._connect()
        finally:
            if connected is None:
                self._counts.unsent[Unsent.COLLECTOR_AWAY] += len(flows)
        if connected is None:
            return
        messages = self._encoder.messages(flows, now)
        try:
            for number, message in enumerate(messages, start=1):
                self._send(connected, message, origin)
                # Others of the agent have their turn.
                await asyncio.sleep(0 if number % _BURST else _PAUSE_SECONDS)
        finally:
            for message in messages:
                self._send(connected, message, origin)

    def _send(self, connected: socket.socket, message: Message, origin: Origin) -> None:
        try:
            connected.send(message.payload)
        except ConnectionRefusedError:
            # ICMP told it of an earlier one, and this one was not sent. Who listens there next knows no template.
            self._encoder.begin_anew()
            self._counts.unsent[Unsent.COLLECTOR_AWAY] += message.flows
        except OSError:
            self._counts.unsent[Unsent.NOT_SENT] += message.flows
        else:
            self._counts.messages += 1
            self._counts.sent[origin] += message.flows

    async def _connect(self) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._resolve_at:
            return self._socket
        self._resolve_at = loop.time() + _RESOLVE_SECONDS
        host, port = self._collector
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError):
            # UnicodeError: no name can be such (RFC 1035, section 2.3.4). It is tried again the next time; where there
            # was one it goes on.
            self._resolve_at = loop.time()
            return self._socket
        family, kind, protocol, _, address = found[0]
        if address == self._address and self._socket is not None:
            return self._socket
        self.close()
        try:
            self._socket = _connected(family, kind, protocol, address)
        except OSError:
            # No way there, or no descriptor left.
            self._resolve_at = loop.time()
            return None
        self._address = address
        self._encoder.begin_anew()
        return self._socket


def _connected(
    family: int, kind: int, protocol: int, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
) -> socket.socket:
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made
