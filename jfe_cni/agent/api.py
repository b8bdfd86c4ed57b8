"""The agent's API: HTTP on a Unix socket for its owner alone. Requests are parsed whole before anything is done."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Any, Protocol

from aiohttp import web

from jfe_cni.agent import faults
from jfe_cni.agent.connections import Connections
from jfe_cni.agent.directory import Key
from jfe_cni.agent.explain import Destination
from jfe_cni.agent.fields import Fields
from jfe_cni.agent.log import fields
from jfe_cni.agent.metrics import CONTENT_TYPE
from jfe_cni.agent.objects import DirectoryEntry, Enrolment, network_of
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.agent.views import Views
from jfe_cni.errors import AgentError, JfeError, KernelError, RequestError

# A push of 50,000 directory entries fits; everything else is a few hundred bytes.
_BODY_LIMIT = 8 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Doer(Protocol):
    """What the API has done: each returns when it is so, and raises JfeError where it can't be."""

    async def enrol(self, enrolment: Enrolment) -> WorkloadReport: ...
    async def unenrol(self, workload: str) -> None: ...
    async def push(self, entries: list[DirectoryEntry]) -> None: ...
    async def withdraw(self, keys: list[Key]) -> None: ...
    async def rotate(self, step: str) -> None: ...
    async def metrics(self) -> bytes: ...


class Api:
    def __init__(self, doer: Doer, views: Views, connections: Connections, log: logging.Logger) -> None:
        self._doer = doer
        self._views = views
        self._connections = connections
        self._log = log

    def application(self, more: Iterable[web.RouteDef] = ()) -> web.Application:
        """`more`: routes of others on the same socket."""
        application = web.Application(client_max_size=_BODY_LIMIT, middlewares=[self._errors_as_json])
        application.add_routes(
            [
                *more,
                web.post("/v1/workloads", self._enrol),
                web.get("/v1/workloads", self._workloads),
                web.get("/v1/workloads/{id}", self._workload),
                web.delete("/v1/workloads/{id}", self._unenrol),
                web.get("/v1/status", self._status),
                web.get("/v1/connections", self._connections_now),
                web.get("/v1/rules", self._rules),
                web.get("/v1/rules/{id}", self._rules),
                web.get("/v1/explain", self._explain),
                web.get("/v1/directory", self._directory),
                web.post("/v1/directory", self._push),
                web.delete("/v1/directory", self._withdraw),
                web.get("/v1/metrics", self._metrics),
                web.get("/v1/ca", self._authority),
                web.post("/v1/ca/rotate", self._rotate),
            ]
        )
        return application

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except JfeError as error:
            if faults.status_of(error) >= 500:
                self._log.error("request failed", extra=fields(path=request.path, error=str(error)))
            return _json(faults.as_json(error), status=faults.status_of(error))
        except OSError as error:
            # Out of memory, descriptors or processes, or a file that went away meanwhile: what the kernel said of it.
            self._log.exception("request failed", extra=fields(path=request.path, error=str(error)))
            fault = KernelError(f"{request.method} {request.path}: {error}", remedy="try again; see the agent's log")
            return _json(faults.as_json(fault), status=faults.status_of(fault))
        except web.HTTPException as error:
            refused = RequestError(
                f"{request.method} {request.path}: {error.reason}",
                remedy="call it by a verb of `jfe`, or by jfe_cni.agent.client",
            )
            return _json(faults.as_json(refused), status=error.status)

    async def _enrol(self, request: web.Request) -> web.Response:
        enrolment = Enrolment.of(Fields.of_bytes(await request.read(), "the enrolment"))
        # Not shielded: a caller that goes away meanwhile wants it no more, and all is undone.
        return _json(asdict(await self._doer.enrol(enrolment)), status=201)

    async def _unenrol(self, request: web.Request) -> web.Response:
        await asyncio.shield(self._doer.unenrol(request.match_info["id"]))
        return _json(None)

    async def _workloads(self, _: web.Request) -> web.Response:
        return _json([asdict(workload) for workload in (await self._views.status()).workloads])

    async def _workload(self, request: web.Request) -> web.Response:
        return _json(asdict(await self._views.workload(request.match_info["id"])))

    async def _status(self, _: web.Request) -> web.Response:
        return _json(asdict(await self._views.status()))

    async def _connections_now(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("follow") != "1":
            return _json([asdict(connection) for connection in await self._connections.now()])
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for connection in self._connections.follow():
            await response.write(json.dumps(asdict(connection)).encode() + b"\n")
        return response

    async def _rules(self, request: web.Request) -> web.Response:
        return _json([asdict(rules) for rules in await self._views.rules(request.match_info.get("id"))])

    async def _explain(self, request: web.Request) -> web.Response:
        destination = Destination.parse(request.query.get("destination", ""))
        return _json([asdict(each) for each in self._views.explain(destination, request.query.get("workload"))])

    async def _directory(self, _: web.Request) -> web.Response:
        return _json([asdict(entry) for entry in self._views.directory()])

    async def _push(self, request: web.Request) -> web.Response:
        body = Fields.of_bytes(await request.read(), "the request")
        listed = body.elements("entries")
        body.done()
        entries = [DirectoryEntry.of(Fields(each, f"entry {at}"), "api") for at, each in enumerate(listed, 1)]
        await asyncio.shield(self._doer.push(entries))
        return _json(None)

    async def _withdraw(self, request: web.Request) -> web.Response:
        body = Fields.of_bytes(await request.read(), "the request")
        listed = body.elements("keys")
        body.done()
        await asyncio.shield(self._doer.withdraw([_key(each, at) for at, each in enumerate(listed, 1)]))
        return _json(None)

    async def _metrics(self, _: web.Request) -> web.Response:
        return await metrics_response(self._doer)

    async def _authority(self, _: web.Request) -> web.Response:
        return _json(asdict(self._views.authority()))

    async def _rotate(self, request: web.Request) -> web.Response:
        body = Fields.of_bytes(await request.read(), "the request")
        step = body.text("step")
        body.done()
        await asyncio.shield(self._doer.rotate(step))
        return _json(asdict(self._views.authority()))


def bare_application(routes: Iterable[web.RouteDef], why: Callable[[], str]) -> web.Application:
    """What an agent serves that is not ready: what others answer without it, and for all else `why`."""

    async def not_ready(_: web.Request) -> web.Response:
        fault = AgentError(f"the agent is not ready: {why()}", remedy="mend that; the agent goes on by itself")
        return _json(faults.as_json(fault), status=503)

    application = web.Application(client_max_size=_BODY_LIMIT)
    application.add_routes([*routes, web.route("*", "/{path:.*}", not_ready)])
    return application


def metrics_application(doer: Doer) -> web.Application:
    """What the TCP endpoint serves: metrics, and nothing else."""

    async def metrics(_: web.Request) -> web.Response:
        return await metrics_response(doer)

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics)])
    return application


async def metrics_response(doer: Doer) -> web.Response:
    return web.Response(body=await doer.metrics(), headers={"Content-Type": CONTENT_TYPE})


def _key(value: object, at: int) -> Key:
    key = Fields(value, f"key {at}")
    network, port = network_of(key.text("network"), key.what), key.port("port")
    key.done()
    return network, port


def _json(value: Any, status: int = 200) -> web.Response:
    return web.json_response(value, status=status)
