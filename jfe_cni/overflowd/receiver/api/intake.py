"""POST /.well-known/overflowd/notices, and the receiver's own keys. Open to everybody."""

from __future__ import annotations

import time

from fastapi import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Scope

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.http import CONTENT_TYPE as MEDIA_TYPE
from jfe_cni.overflowd.delivery.http import PATH as NOTICES
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.notices.messages import LARGEST_MESSAGE
from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.application import new_application
from jfe_cni.overflowd.receiver.api.boundary import NOSNIFF, Boundary
from jfe_cni.overflowd.receiver.api.problems import Problem, response
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import NotTaken, Origin, Untaken
from jfe_cni.overflowd.receiver.limits import of_host
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.own_keys import Published
from jfe_cni.overflowd.receiver.reception import Reception

_JWK_SET = "application/jwk-set+json"  # RFC 7517, section 8.5.2


EACH = 32
"""Requests of one network at one time."""


def intake_application(reception: Reception, keys: Published, metrics: Metrics, complaints: Complaints) -> ASGIApp:
    """The answer to what is taken is the message that UDP would have: `overflowd1 taken DIGEST`."""
    app = new_application(complaints)
    warned = False

    def admits(scope: Scope, address: Address) -> Problem | None:
        nonlocal warned
        if not warned and _is_of_proxy(scope, address):
            warned = True
            complaints.complain(f"{address} says whom it asks for, and is not believed: see --proxies")
        if (scope["method"], scope["path"]) != ("POST", NOTICES) or reception.admits(_origin(address)):
            return None
        return problems.not_taken(Untaken.TOO_MANY)

    @app.post(NOTICES)
    async def post(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
            return response(problems.NO_MEDIA)
        assert request.client is not None
        # `Boundary` has read it before.
        origin = _origin(of_host(request.client.host))
        try:
            answered = await reception.take(await request.body(), origin)
        except JfeError:
            metrics.failed()
            raise
        decision = answered.decision
        if isinstance(decision, NotTaken) and decision.reason is not Stale.REPLAYED:
            return response(problems.not_taken(decision.reason))
        assert answered.message is not None
        if isinstance(answered.message, messages.OptOut):
            # As `delivery.http` looks for it: 410, there is nobody here any more who wants one.
            return Response(answered.message.signed, 410, media_type=MEDIA_TYPE)
        return Response(messages.encode(answered.message), media_type="text/plain")

    @app.get(PUBLISHED)
    async def published() -> Response:
        return JSONResponse(await keys(int(time.time())), media_type=_JWK_SET)

    return Boundary(app, LARGEST_MESSAGE, NOSNIFF, each=EACH, admits=admits)


def _is_of_proxy(scope: Scope, address: Address) -> bool:
    """One that is not listed: of those that are, uvicorn has put another address in its place, with port 0. From the
    Internet, anybody may write that field."""
    named = any(name == b"x-forwarded-for" for name, _ in scope["headers"])
    return named and address.is_private and scope["client"][1] != 0


def _origin(address: Address) -> Origin:
    """Who has a connection can read what is sent there (RFC 9293, section 3.5); its port is of no concern then."""
    return Origin(address, 0, proven=True)
