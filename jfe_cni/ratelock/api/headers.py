"""Header fields of answers: RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4;
Structured Fields, RFC 9651), Retry-After (RFC 9110, 10.2.3); and of requests: Idempotency-Key
(draft-ietf-httpapi-idempotency-key-header-07). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jfe_cni.ratelock.budgets import Limit, Meter
from jfe_cni.ratelock.names import check_idempotency_key

Headers = Mapping[str, str]
# The longest that a structured integer may be (RFC 9651, section 3.3.1) is far beyond any window.
_SECOND = 1_000_000


def rate_limit_headers(meter: Meter | None, limit: Limit | None, retry_after: float | None) -> dict[str, str]:
    """Of a spent budget. The policy is called by the meter's kind: its name may be somebody else's secret. Seconds are
    whole and rounded up, for who comes earlier comes for nothing; the problem's `retry_after` is exact.

    `w` is left out where the window is no whole number of seconds: the field can't tell it."""
    headers: dict[str, str] = {}
    seconds = None if retry_after is None else max(1, math.ceil(retry_after))
    if seconds is not None:
        headers["retry-after"] = str(seconds)
    if meter is None:
        return headers
    if limit is not None:
        window = f";w={limit.window // _SECOND}" if limit.window % _SECOND == 0 else ""
        headers["ratelimit-policy"] = f'"{meter.kind}";q={limit.count}{window}'
    headers["ratelimit"] = f'"{meter.kind}";r=0' + ("" if seconds is None else f";t={seconds}")
    return headers


def idempotency_key(value: str | None) -> str | None:
    """The draft has a string in quotes; without them it is taken too. Raises RequestError."""
    if value is None:
        return None
    quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return check_idempotency_key(value[1:-1] if quoted else value)
