"""Header fields of answers: RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4;
Structured Fields, RFC 9651), Retry-After (RFC 9110, 10.2.3); and of requests: Idempotency-Key
(draft-ietf-httpapi-idempotency-key-header-07). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jfe_cni.ratelock.budgets import Limit, MeterKind
from jfe_cni.ratelock.names import check_idempotency_key

Headers = Mapping[str, str]
_SECOND = 1_000_000


def rate_limit_headers(kind: MeterKind, limit: Limit, retry_after: float | None) -> dict[str, str]:
    """Of a spent budget, which is called by its meter's kind. Seconds are whole and rounded up, for who comes earlier
    comes for nothing; the problem's `retry_after` is exact. `w` is left out where the window is no whole number of
    seconds: the field can't tell it."""
    window = f";w={limit.window // _SECOND}" if limit.window % _SECOND == 0 else ""
    policy = {"ratelimit-policy": f'"{kind}";q={limit.count}{window}'}
    if retry_after is None:
        return policy | {"ratelimit": f'"{kind}";r=0'}
    seconds = max(1, math.ceil(retry_after))
    return policy | {"ratelimit": f'"{kind}";r=0;t={seconds}', "retry-after": str(seconds)}


def idempotency_key(value: str | None) -> str | None:
    """The draft has a string in quotes; without them it is taken too. Raises RequestError."""
    if value is None:
        return None
    quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return check_idempotency_key(value[1:-1] if quoted else value)
