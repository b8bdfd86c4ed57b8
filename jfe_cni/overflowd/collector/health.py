"""What a cluster asks of a collector, and what receivers ask of it: does it live, is it ready, what has it counted; its
keys."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from jfe_cni.errors import HostError, IdentityError
from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.sockets import remedy


def application(
    metrics: Callable[[], bytes],
    unready: Callable[[], str | None],
    published: Callable[[], Awaitable[Mapping[str, object]]],
) -> web.Application:
    """`metrics`: as Prometheus reads them. `unready`: why; None, it is ready. `published`: the JWK set; raises
    IdentityError where it has said why there is none."""

    async def healthz(_: web.Request) -> web.Response:
        """The process answers: no reason to start another."""
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        why = unready()
        if why is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "unready", "reason": why}, status=503)

    async def metrics_text(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def keys(_: web.Request) -> web.Response:
        try:
            found = await published()
        except IdentityError:
            # Anybody asks; what is wrong with the file is its owner's to know.
            return web.json_response({"reason": "the keys can't be read"}, status=503)
        # A receiver keeps them for as long; a key that is rotated out stays published for a month.
        return web.json_response(found, headers={"Cache-Control": "public, max-age=3600"})

    made = web.Application()
    for path, handler in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics_text), (PUBLISHED, keys)):
        made.router.add_get(path, handler)
    return made


@contextlib.asynccontextmanager
async def serving(app: web.Application, address: tuple[str, int]) -> AsyncIterator[int]:
    """Within; yields the port. Raises HostError: the address is taken, or not this host's."""
    host, port = address
    try:
        if host == "::":
            bound = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise HostError(
            f"--listen {host}:{port} can't be listened on: {os.strerror(error.errno or 0)}",
            remedy(error.errno, "ss -ltnp"),
        ) from error
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    with bound:
        await runner.setup()
        try:
            await web.SockSite(runner, bound).start()
            yield bound.getsockname()[1]
        finally:
            await runner.cleanup()
