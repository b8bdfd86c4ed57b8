"""What ratelock says no with."""

from __future__ import annotations

from jfe_cni.errors import ConflictError, JfeError, RequestError
from jfe_cni.ratelock.budgets import Limit, Meter


class Unauthenticated(RequestError):
    """Nobody knows who asks: no credential, or one that is unknown, revoked or expired."""


class Forbidden(RequestError):
    """Who asks is known, and may not."""


class UnknownSecret(RequestError):
    """No secret is called so. For owners only: a caller is answered as if the secret were there."""

    @classmethod
    def named(cls, name: str) -> UnknownSecret:
        return cls(f"no secret is called {name}", remedy="see `ratelock add --help`, or list the secrets")


class UnknownToken(RequestError):
    """No token has this digest. For owners only."""


class KeyReusedError(ConflictError):
    """The idempotency key stood for another request."""

    def __init__(
        self,
        message: str = "this idempotency key stood for another request",
        remedy: str = "choose a new key for every request; keep it for the same request, tried again",
    ) -> None:
        super().__init__(message, remedy)


class BudgetSpent(JfeError):
    """The attempt was not counted, and nothing was looked at. `retry_after`, seconds: when there is room again, if
    nobody else takes it; None where that is not told."""

    temporary = True

    def __init__(self, meter: Meter, limit: Limit, retry_after: float | None) -> None:
        what = f"of {meter.kind} {meter.name}" if meter.name else "of all"
        super().__init__(
            f"budget spent: {what}, {limit.count} in {limit.window / 1e6:g} s",
            remedy="come again later" if retry_after is None else f"come again in {retry_after:.1f} s",
        )
        self.meter = meter
        self.limit = limit
        self.retry_after = retry_after


class Overloaded(JfeError):
    """As many passwords as there is memory for are being checked, and as many as may wait do. Nothing was counted."""

    temporary = True


class SealingError(JfeError):
    """Something sealed does not open, or a key-encryption key can't be used."""


class KeyUnreachable(SealingError):
    """The service that holds the key-encryption key does not answer, or is too busy."""

    temporary = True
