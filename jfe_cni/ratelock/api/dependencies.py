"""What routes are given: the service, who asks, the idempotency key; and how they are described."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Header, Path, Request

from jfe_cni.ratelock.api import headers, problems
from jfe_cni.ratelock.api.models import Name
from jfe_cni.ratelock.api.service import Service
from jfe_cni.ratelock.authorisation import Caller


async def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


async def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Stands for this request alone: who sends it again is not counted again.",
            json_schema_extra={"pattern": '^([A-Za-z0-9._:-]{1,128}|"[A-Za-z0-9._:-]{1,128}")$'},
        ),
    ] = None,
) -> str | None:
    return headers.idempotency_key(idempotency_key)


ServiceGiven = Annotated[Service, Depends(_service)]
CallerGiven = Annotated[Caller, Depends(_caller)]
IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
SecretName = Annotated[Name, Path(description="A secret's name; slashes may be written as %2F.")]

_ALWAYS = (400, 401, 403, 408, 413, 414, 422, 500, 503)


def responses(*more: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's list of problems that a route may answer with: those of every route, and `more`."""
    titles: dict[int, str] = {}
    for each in problems.TYPES:
        titles[each.status] = f"{titles[each.status]}; {each.title}" if each.status in titles else each.title
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answers: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*_ALWAYS, *more}):
        answers[status] = {"description": titles[status], "content": {problems.MEDIA_TYPE: schema}}
        if status in (429, 503):
            answers[status]["headers"] = {"Retry-After": _field("Whole seconds.", "integer")}
        if status == 429:
            answers[status]["headers"] |= {
                "RateLimit": _field('`"secret";r=0;t=10`'),
                "RateLimit-Policy": _field('`"secret";q=3;w=10`'),
            }
        if status == 401:
            answers[status]["headers"] = {"WWW-Authenticate": _field("RFC 6750, section 3.")}
    return answers


def _field(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}
