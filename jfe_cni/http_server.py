"""uvicorn as the services run it: without its signals and its lifespan, and waiting for nobody for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jfe_cni.errors import RequestError

# As uvicorn's own; more wait in the kernel's queue than are served.
BACKLOG = 2_048
# Request line and fields; the longest address and a token fit many times.
LONGEST_HEAD = 16_384


class Server(uvicorn.Server):
    """Without uvicorn's own signals: it would end the process by them, before the store is closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, on sockets that are bound; but that gives a TLS handshake asyncio's limit, a minute."""
        config, loop = self.config, asyncio.get_running_loop()

        # uvicorn's type of its protocols is asyncio's, which takes none of these.
        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        patience = None if config.ssl is None else config.timeout_keep_alive
        self.servers = []
        try:
            for bound in sockets or ():
                server = await loop.create_server(
                    protocol, sock=bound, ssl=config.ssl, ssl_handshake_timeout=patience, backlog=config.backlog
                )
                self.servers.append(server)
            self.started = True
        finally:
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Connection(H11Protocol):
    """A head is awaited as long as an idle connection is kept: uvicorn itself would wait for ever."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        # What was answered before its body had come is waited for no longer than the next request.
        unread = self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete
        if (unread or self.conn.their_state is h11.IDLE) and not self.transport.is_closing():
            self._await_head()
        else:
            self._head_came()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8750`, `[::1]:8750`; port 0: any that is free. Raises RequestError."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise RequestError(f"{address!r} is no address to listen on", remedy="write HOST:PORT")
    return host.strip("[]"), int(port)
