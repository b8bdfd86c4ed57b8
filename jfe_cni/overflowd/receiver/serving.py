"""Sockets, TLS and the server of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from jfe_cni.errors import RequestError
from jfe_cni.http_server import BACKLOG, LONGEST_HEAD, Connection, Server, host_and_port
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.receiver.limits import AtOnce, of_host
from jfe_cni.renewed_certificates import load_pair

_MOST_CONNECTIONS = 1_024
# Of connections, together.
_REFUSALS = 64
OF_A_NETWORK = 64
"""Connections of one network (/24, /48) at one time, to what everybody may connect to."""

# Seconds.
_STOPPING = 10
_IDLE = 15


class _Counted(socket.socket):
    """A connection, which gives its place back. `left`: told once."""

    left: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        if self.left is not None:
            left, self.left = self.left, None
            left()


class _Listening(socket.socket):
    """Hangs up on those for whom there is no place, before TLS or HTTP costs anything; the event loop sees the others
    alone."""

    places: AtOnce

    def accept(self) -> tuple[socket.socket, Any]:
        for _ in range(_REFUSALS):
            number, name = self._accept()  # type: ignore[attr-defined]
            accepted = _Counted(self.family, self.type, self.proto, fileno=number)
            address = of_host(name[0])
            if self.places.take(address):
                accepted.left = functools.partial(self.places.give_back, address)
                return accepted, name
            accepted.close()
        # As if there were no more: the event loop sees to others, and comes again.
        raise BlockingIOError


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    address: str,
    secured: ssl.SSLContext | None = None,
    proxies: tuple[str, ...] = (),
    idle: int = _IDLE,
    each: int | None = None,
) -> AsyncIterator[str]:
    """Serves within; yields the URL. Requests that run on the way out may end. `idle`: seconds that a request's head is
    waited for. `each`: connections of one network, but for those of `proxies`; None: as many as of all. Raises
    RequestError."""
    with _bound(address, AtOnce(_MOST_CONNECTIONS, each, _among(proxies))) as bound:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # It warns of each request that is none: whoever sends them would fill the disk.
            log_level="error",
            access_log=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=idle,
            timeout_graceful_shutdown=_STOPPING,
            h11_max_incomplete_event_size=LONGEST_HEAD,
            ssl_context_factory=None if secured is None else lambda _config, _default: secured,
        )
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            await server.listening.wait()
            if not server.started:
                await task
            host, port = bound.getsockname()[:2]
            scheme = "http" if secured is None else "https"
            yield f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            server.should_exit = True
            await task


@contextlib.contextmanager
def _bound(address: str, places: AtOnce) -> Iterator[socket.socket]:
    host, port = host_and_port(address)
    try:
        if host == "::":
            bound = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise RequestError(
            f"{address} can't be listened on: {os.strerror(error.errno or 0)}", remedy="choose another"
        ) from error
    with _Listening(bound.family, bound.type, bound.proto, fileno=bound.detach()) as listening:
        listening.places = places
        listening.setblocking(False)
        yield listening


def _among(proxies: tuple[str, ...]) -> Callable[[Address], bool]:
    """As uvicorn reads them: addresses, networks, `*`; what is a path of a socket is no address."""
    networks = []
    for each in proxies:
        with contextlib.suppress(ValueError):
            networks.append(ip_network(each))
    return lambda address: (
        "*" in proxies or any(address.version == each.version and address in each for each in networks)
    )


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises RequestError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Into a context that may be in use: connections from now on have it. Raises RequestError."""
    try:
        load_pair(context, certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise RequestError(
            f"the certificate can't be used: {error}", remedy="give PEM files that belong together"
        ) from error
