"""Problem details (RFC 9457): the one form of every error, and the list of their types. Pure.

Types are `tag` URIs (RFC 4151): names, not addresses; they stay. A spent budget has the type that the draft of the
RateLimit fields registers (draft-ietf-httpapi-ratelimit-headers-10, section 7), with `violated-policies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from jfe_cni.errors import ConflictError, JfeError, RequestError, StoreError
from jfe_cni.ratelock.api.headers import Headers, rate_limit_headers
from jfe_cni.ratelock.faults import (
    BudgetSpent,
    Forbidden,
    KeyReusedError,
    KeyUnreachable,
    Overloaded,
    SealingError,
    Unauthenticated,
    UnknownSecret,
    UnknownToken,
)

MEDIA_TYPE = "application/problem+json"
TAG = "tag:jfe.io,2026:ratelock/"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
# RFC 6750, section 3.
CHALLENGE = {"www-authenticate": 'Bearer realm="ratelock"'}
SOON = {"retry-after": "1"}


@dataclass(frozen=True)
class ProblemType:
    name: str
    status: int
    title: str

    @property
    def uri(self) -> str:
        return QUOTA_EXCEEDED if self is SPENT else TAG + self.name


MALFORMED = ProblemType("malformed", 400, "The request can't be read")
UNAUTHENTICATED = ProblemType("unauthenticated", 401, "No valid credential")
FORBIDDEN = ProblemType("forbidden", 403, "The credential does not reach so far")
NO_SECRET = ProblemType("no-such-secret", 404, "There is no such secret")
NO_TOKEN = ProblemType("no-such-token", 404, "There is no such token")
NO_RESOURCE = ProblemType("no-such-resource", 404, "There is nothing here")
NO_METHOD = ProblemType("method-not-allowed", 405, "This can't be done here")
SLOW = ProblemType("request-too-slow", 408, "The request took too long to arrive")
CONFLICT = ProblemType("conflict", 409, "It is there already, or was changed meanwhile")
KEY_REUSED = ProblemType("idempotency-key-reused", 409, "The idempotency key stands for another request")
TOO_LARGE = ProblemType("body-too-large", 413, "The body is too large")
TOO_LONG = ProblemType("address-too-long", 414, "The address is too long")
UNFIT = ProblemType("unfit", 422, "The request asks for something that can't be")
SPENT = ProblemType("quota-exceeded", 429, "The budget is spent")
INTERNAL = ProblemType("internal", 500, "The service failed")
SEALING = ProblemType("sealing", 500, "A secret can't be opened or sealed")
STORE = ProblemType("store", 503, "The store does not answer")
KEY_AWAY = ProblemType("key-unreachable", 503, "The key-encryption key can't be reached")
BUSY = ProblemType("busy", 503, "Too many requests are being served")
TIMEOUT = ProblemType("timeout", 503, "The answer took too long")

TYPES = (
    MALFORMED, UNAUTHENTICATED, FORBIDDEN, NO_SECRET, NO_TOKEN, NO_RESOURCE, NO_METHOD, SLOW, CONFLICT, KEY_REUSED,
    TOO_LARGE, TOO_LONG, UNFIT, SPENT, INTERNAL, SEALING, STORE, KEY_AWAY, BUSY, TIMEOUT,
)  # fmt: skip

# The first class that fits.
_TYPE_OF: tuple[tuple[type[JfeError], ProblemType], ...] = (
    (BudgetSpent, SPENT),
    (Unauthenticated, UNAUTHENTICATED),
    (Forbidden, FORBIDDEN),
    (UnknownSecret, NO_SECRET),
    (UnknownToken, NO_TOKEN),
    (Overloaded, BUSY),
    (KeyReusedError, KEY_REUSED),
    (ConflictError, CONFLICT),
    (RequestError, UNFIT),
    (StoreError, STORE),
    (KeyUnreachable, KEY_AWAY),
    (SealingError, SEALING),
)
HEADERS_OF: Mapping[ProblemType, Headers] = {
    UNAUTHENTICATED: CHALLENGE,
    STORE: SOON,
    KEY_AWAY: SOON,
    BUSY: SOON,
    TIMEOUT: SOON,
}


@dataclass(frozen=True)
class Problem:
    """`members`: extension members (RFC 9457, section 3.2)."""

    type: ProblemType
    detail: str = ""
    remedy: str = ""
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Headers = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        document: dict[str, object] = {"type": self.type.uri, "title": self.type.title, "status": self.type.status}
        document |= {"detail": self.detail} if self.detail else {}
        document |= {"remedy": self.remedy} if self.remedy else {}
        return document | dict(self.members)


def problem_of(error: JfeError) -> Problem:
    kind = next((kind for fault, kind in _TYPE_OF if isinstance(error, fault)), INTERNAL)
    if isinstance(error, BudgetSpent):
        return _spent(error)
    # What the store or the keys say of their troubles is for the log, not for whoever calls.
    told = kind.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Problem(kind, error.message if told else "", error.remedy if told else "")


def _spent(error: BudgetSpent) -> Problem:
    """Says the kind of the meter and not its name: the class of a secret is no business of its callers."""
    limit, kind = error.limit, error.meter.kind
    members: dict[str, object] = {
        "violated-policies": [kind],
        "limit": {"count": limit.count, "window": limit.window / 1e6},
    }
    if error.retry_after is not None:
        members["retry_after"] = round(error.retry_after, 6)
    detail = f"budget spent: {limit.count} in {limit.window / 1e6:g} s, counted per {kind}"
    if kind == "all":
        detail = f"budget spent: {limit.count} in {limit.window / 1e6:g} s, counted over all"
    return Problem(SPENT, detail, error.remedy, members, rate_limit_headers(kind, limit, error.retry_after))


def unfit(faults: Sequence[tuple[str, str]]) -> Problem:
    """`faults`: JSON pointers into the body (or names of parameters) and what is wrong; never the value that came."""
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults]
    return Problem(UNFIT, "; ".join(f"{pointer}: {detail}" for pointer, detail in faults), "", {"errors": errors})


def types_table() -> str:
    """What docs/ratelock.md has, as Markdown."""
    rows = [f"| `{each.uri}` | {each.status} | {each.title} |" for each in TYPES]
    return "\n".join(["| type | status | title |", "| --- | --- | --- |", *rows]) + "\n"
