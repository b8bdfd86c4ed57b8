"""One request of a client and what its answer means: everything of the clients that does no I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args
from urllib.parse import quote

import httpx

from jfe_cni.errors import ConflictError, JfeError, RequestError, StoreError
from jfe_cni.ratelock.api import problems
from jfe_cni.ratelock.budgets import Budget, Limit, Meter, MeterKind
from jfe_cni.ratelock.faults import (
    BudgetSpent,
    Forbidden,
    KeyReusedError,
    Overloaded,
    SealingError,
    Unauthenticated,
    UnknownSecret,
    UnknownToken,
)

# Between tries, in seconds; as many tries more as there are pauses.
PAUSES = (0.1, 0.4, 1.6)

_FAULT_OF: Mapping[str, type[JfeError]] = {
    problems.UNAUTHENTICATED.uri: Unauthenticated,
    problems.FORBIDDEN.uri: Forbidden,
    problems.NO_SECRET.uri: UnknownSecret,
    problems.NO_TOKEN.uri: UnknownToken,
    problems.CONFLICT.uri: ConflictError,
    problems.KEY_REUSED.uri: KeyReusedError,
    problems.INTERNAL.uri: JfeError,
    problems.SEALING.uri: SealingError,
    problems.STORE.uri: StoreError,
    problems.KEY_AWAY.uri: StoreError,
    problems.BUSY.uri: Overloaded,
    problems.TIMEOUT.uri: StoreError,
}


class ServiceUnreachable(JfeError):
    """Nobody answers, or not as the service does."""

    temporary = True


@dataclass(frozen=True)
class Call:
    """`repeatable`: may be sent again where nobody knows whether it arrived; an attempt may, under its own key."""

    method: str
    path: str
    content: Mapping[str, object] | None = field(default=None, repr=False)
    query: Mapping[str, int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False

    def may_repeat(self, failure: httpx.TransportError | httpx.Response) -> bool:
        """Nothing was sent where there was no connection; a service that is busy has counted nothing."""
        if isinstance(failure, httpx.Response):
            return failure.status_code == 503 and (self.repeatable or _is_busy(failure))
        return self.repeatable or isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout)


def attempt(name: str, operation: str, content: Mapping[str, object], idempotency_key: str | None) -> Call:
    key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
    path = f"/v1/secrets/{segment(name)}/{operation}"
    return Call("POST", path, content, headers={"idempotency-key": f'"{key}"'}, repeatable=True)


def segment(name: str) -> str:
    return quote(name, safe="")


def meter_path(meter: Meter) -> str:
    return f"/v1/budgets/{meter.kind}" + (f"/{segment(meter.name)}" if meter.name else "")


def budget_content(budget: Budget) -> dict[str, object]:
    limits = [{"count": limit.count, "window": limit.window / 1e6} for limit in budget.limits]
    return {"limits": limits, "loosening_delay": budget.loosening_delay / 1e6}


def token_content(
    identity: str, role: str, operations: Sequence[str] | None, secrets: Sequence[str], expires_in: float
) -> dict[str, object]:
    return {
        "identity": identity,
        "role": role,
        "operations": None if operations is None else list(operations),
        "secrets": list(secrets),
        "expires_in": expires_in,
    }


def unreachable(url: str, error: httpx.TransportError) -> ServiceUnreachable:
    return ServiceUnreachable(
        f"ratelock at {url} can't be reached: {error or type(error).__name__}",
        remedy="start it (`ratelock serve --dev`), or name another by RATELOCK_URL",
    )


def answer_of(response: httpx.Response) -> Any:
    """The JSON of a good answer, None where it has none. Raises what the problem stands for."""
    if response.status_code == 204:
        return None
    try:
        document = response.json()
    except ValueError as error:
        raise ServiceUnreachable(
            f"what answers at {response.url.host} is not ratelock (status {response.status_code})",
            remedy="see RATELOCK_URL",
        ) from error
    if response.is_success:
        return document
    raise fault_of(document if isinstance(document, dict) else {}, response.status_code)


def fault_of(document: Mapping[str, Any], status: int) -> JfeError:
    """The error that a problem document was made of."""
    kind = document.get("type")
    if kind == problems.QUOTA_EXCEEDED:
        return _spent(document)
    message = str(document.get("detail") or document.get("title") or f"the service answered with status {status}")
    fault = _FAULT_OF.get(str(kind), RequestError if status < 500 else StoreError)
    return fault(message, str(document.get("remedy", "")))


def _spent(document: Mapping[str, Any]) -> BudgetSpent:
    kinds = document.get("violated-policies") or ["all"]
    kind = cast(MeterKind, kinds[0] if kinds[0] in get_args(MeterKind) else "all")
    limit = document.get("limit") or {}
    after = document.get("retry_after")
    return BudgetSpent(
        Meter(kind),
        Limit(int(limit.get("count", 1)), round(float(limit.get("window", 1)) * 1e6)),
        None if after is None else float(after),
    )


def _is_busy(response: httpx.Response) -> bool:
    return problems.BUSY.uri.encode() in response.content
