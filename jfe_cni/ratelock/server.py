"""The process that serves: sockets, TLS whose certificates are replaced while it runs, SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from jfe_cni.errors import RequestError
from jfe_cni.http_server import BACKLOG, LONGEST_HEAD, Server, host_and_port
from jfe_cni.ratelock.api.app import application, probes
from jfe_cni.ratelock.api.authentication import Identities, read_identities
from jfe_cni.ratelock.api.health import Readiness
from jfe_cni.ratelock.api.metrics import Metrics
from jfe_cni.ratelock.api.service import Service
from jfe_cni.ratelock.connection import Connection
from jfe_cni.ratelock.settings import Settings
from jfe_cni.renewed_certificates import load_pair, renewed

log = logging.getLogger("ratelock")

Probe = Callable[[], Awaitable[object]]


async def serve(service: Service, settings: Settings, ready: Probe, started: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then ends what runs. `ready`: see `Readiness`. `started` is told the URL. Raises
    RequestError: an address that is taken, a file that can't be read."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(service, settings, ready) as url:
            started(url)
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def serving(service: Service, settings: Settings, ready: Probe) -> AsyncIterator[str]:
    """Serves within; yields the URL. On the way out, requests that run may end, for `stop_timeout`."""
    metrics, readiness = Metrics(), Readiness(ready)
    identities = Identities() if settings.identities is None else read_identities(settings.identities)
    secured = None if settings.tls_certificate is None else tls_context(settings)
    app = application(service, settings, readiness=readiness, identities=identities, metrics=metrics)
    async with contextlib.AsyncExitStack() as stack:
        bound = stack.enter_context(listening(settings.listen))
        if settings.metrics_listen:
            beside = stack.enter_context(listening(settings.metrics_listen))
            await stack.enter_async_context(running(probes(readiness, metrics), beside, settings, None))
        await stack.enter_async_context(running(app, bound, settings, secured))
        if secured is not None:
            load = functools.partial(_load, secured, settings)
            await stack.enter_async_context(renewed(_certificate_files(settings), load, log))
        yield url_of(bound, secure=secured is not None)


@contextlib.asynccontextmanager
async def running(
    app: ASGIApp, bound: socket.socket, settings: Settings, secured: ssl.SSLContext | None
) -> AsyncIterator[None]:
    """Serves `app` on a socket within; `secured`: None, in plain HTTP."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.stop_timeout,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        ssl_context_factory=None if secured is None else lambda _config, _default: secured,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await server.listening.wait()
        if not server.started:
            await task
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A bound socket for `HOST:PORT` or `unix:PATH` (0600). Raises RequestError."""
    path = address.removeprefix("unix:") if address.startswith("unix:") else None
    try:
        if path is not None:
            bound = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            bound.bind(path)
            Path(path).chmod(0o600)
        else:
            host, port = host_and_port(address)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise RequestError(
            f"{address} can't be listened on: {os.strerror(error.errno or 0)}", remedy="choose another"
        ) from error
    bound.setblocking(False)
    try:
        yield bound
    finally:
        bound.close()
        if path is not None:
            Path(path).unlink(missing_ok=True)


def url_of(bound: socket.socket, *, secure: bool) -> str:
    """What the client takes."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if secure else 'http'}://{host}:{name[1]}"


def tls_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.3 alone: no caller is older than this service. Raises RequestError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The application looks at each request's certificate; a resumed session's would be one of the past.
    context.num_tickets = 0
    _load(context, settings)
    if settings.client_ca is not None:
        required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _load(context: ssl.SSLContext, settings: Settings) -> None:
    """Into a context that is in use, too: connections from now on have the new certificates. Roots are added; one that
    is gone from the file is trusted until the service is started again."""
    assert settings.tls_certificate is not None
    try:
        load_pair(context, settings.tls_certificate, settings.tls_key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
    except (OSError, ssl.SSLError) as error:
        raise RequestError(
            f"the certificates can't be used: {error}", remedy="give PEM files that belong together"
        ) from error


def _certificate_files(settings: Settings) -> list[Path]:
    files = (settings.tls_certificate, settings.tls_key, settings.client_ca)
    return [path for path in files if path is not None]
