"""The application: routes, and what turns each error into a problem."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.api import budgets, health, log, operations, problems, secrets, tokens
from jfe_cni.ratelock.api.answers import response
from jfe_cni.ratelock.api.authentication import Authentication, Identities
from jfe_cni.ratelock.api.boundary import Boundary
from jfe_cni.ratelock.api.health import Readiness
from jfe_cni.ratelock.api.metrics import Metrics
from jfe_cni.ratelock.api.openapi import describe
from jfe_cni.ratelock.api.problems import Problem
from jfe_cni.ratelock.api.service import Service
from jfe_cni.ratelock.settings import Settings

_log = logging.getLogger("ratelock")
# `secrets` last: its path is the beginning of the operations'.
_ROUTES = (operations, budgets, tokens, log, health, secrets)
_OF_STATUS = {400: problems.MALFORMED, 404: problems.NO_RESOURCE, 405: problems.NO_METHOD}


def application(
    service: Service,
    settings: Settings,
    *,
    readiness: Readiness,
    identities: Identities | None = None,
    metrics: Metrics | None = None,
) -> ASGIApp:
    """All that is served beside TLS. `identities`: of client certificates."""
    counted = Metrics() if metrics is None else metrics
    routes = routed(service, readiness, counted)
    return Boundary(routes, Authentication(service, identities or Identities()), counted, settings)


def routed(service: Service, readiness: Readiness, metrics: Metrics) -> FastAPI:
    """The routes alone, without what bounds and authenticates requests."""
    app = FastAPI(title="ratelock", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.service = service
    app.state.readiness = readiness
    app.state.metrics = metrics
    for each in _ROUTES:
        app.include_router(each.router)
    described = describe(app.routes)

    @app.get("/openapi.json", include_in_schema=False, name="openapi")
    async def openapi() -> dict[str, Any]:
        return described

    app.add_exception_handler(JfeError, _fault)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_exception_handler(Exception, _failure)
    return app


def description() -> dict[str, Any]:
    """OpenAPI's document, as it is served."""
    app = FastAPI()
    for each in _ROUTES:
        app.include_router(each.router)
    return describe(app.routes)


def probes(readiness: Readiness, metrics: Metrics) -> FastAPI:
    """/healthz, /readyz and /metrics alone, for `metrics_listen`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.readiness = readiness
    app.state.metrics = metrics
    app.include_router(health.router)
    app.add_exception_handler(HTTPException, _refusal)
    return app


async def _fault(_request: Request, error: Exception) -> Response:
    assert isinstance(error, JfeError)
    problem = problems.problem_of(error)
    if problem.type.status >= 500:
        _log.error("%s: %s", problem.type.name, error.message)
    return response(problem)


async def _unfit(_request: Request, error: Exception) -> Response:
    """Places and reasons; never the value, which pydantic's own error quotes."""
    assert isinstance(error, RequestValidationError)
    faults = [(_pointer(each["loc"]), str(each["msg"]).removeprefix("Value error, ")) for each in error.errors()]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return response(Problem(problems.MALFORMED, "the body is no JSON"))
    return response(problems.unfit(faults))


def _pointer(place: tuple[str | int, ...]) -> str:
    """`#/fields/0` (RFC 6901) for the body; the name for a parameter."""
    where, *rest = place
    if where != "body":
        return str(rest[0]) if rest else str(where)
    return "#" + "".join("/" + str(each).replace("~", "~0").replace("/", "~1")[:64] for each in rest)


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _OF_STATUS.get(error.status_code, problems.INTERNAL if error.status_code >= 500 else problems.MALFORMED)
    return response(Problem(kind, headers=dict(error.headers or {})))


async def _failure(_request: Request, _error: Exception) -> Response:
    """A defect of ours. Starlette raises the error on to the server, whose log says where."""
    return response(Problem(problems.INTERNAL))
