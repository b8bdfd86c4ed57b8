"""Problem details (RFC 9457): the one form of every error. Pure.

Types are `tag` URIs (RFC 4151): names, not addresses; they stay. A notice that is not taken has its reason as its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse

from jfe_cni.overflowd.notices.notice import Unfit
from jfe_cni.overflowd.notices.sealing import NotOpened
from jfe_cni.overflowd.notices.signing import Refused
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Reason, Untaken

MEDIA_TYPE = "application/problem+json"
TAG = "tag:jfe.io,2026:overflowd/"


@dataclass(frozen=True)
class Problem:
    name: str
    status: int
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


MALFORMED = Problem("malformed", 400, "The request can't be read")
NO_RESOURCE = Problem("no-such-resource", 404, "There is nothing here")
NO_METHOD = Problem("method-not-allowed", 405, "This can't be done here")
NO_NAME = Problem("unknown-name", 421, "This is not asked for by that name")
SLOW = Problem("request-too-slow", 408, "The request took too long to arrive", {"connection": "close"})
TOO_LARGE = Problem("body-too-large", 413, "The body is too large", {"connection": "close"})
NO_MEDIA = Problem("unsupported-media-type", 415, "A notice is application/jose")
UNFIT = Problem("unfit", 422, "The request asks for something that can't be")
INTERNAL = Problem("internal", 500, "The service failed")
STORE = Problem("store", 503, "The store does not answer", {"retry-after": "10"})
BUSY = Problem("busy", 503, "As many are being served as may be", {"retry-after": "10"})

_NOT_TAKEN: Mapping[Reason, int] = {
    Untaken.TOO_MANY: 429,
    Untaken.NO_KEY: 503,
    Untaken.KEY_CHANGED: 403,
    Untaken.ABOUT_OTHERS: 403,
    Refused.WRONG_SIGNATURE: 403,
    Refused.UNKNOWN_KEY: 403,
    Stale.REPLAYED: 409,
    Stale.TOO_OLD: 422,
    Stale.FROM_THE_FUTURE: 422,
}


def not_taken(reason: Reason) -> Problem:
    """Whoever may try again later is told when."""
    status = _NOT_TAKEN.get(reason, 413 if reason in (Unfit.TOO_LARGE, Refused.TOO_LARGE) else 400)
    headers = {"retry-after": "600"} if status in {429, 503} else {}
    return Problem(reason.value, status, "The notice is not taken", headers)


REASONS: tuple[Reason, ...] = (*Refused, *Unfit, *NotOpened, *Stale, *Untaken)


def response(problem: Problem) -> JSONResponse:
    document = {"type": TAG + problem.name, "title": problem.title, "status": problem.status}
    return JSONResponse(document, problem.status, dict(problem.headers), media_type=MEDIA_TYPE)
