"""What ratelock asks of a store. Every method is one durable transaction: it has happened whole when it returns, and
not at all where it raises.

Stores: `stores/sql.py` (SQLite, PostgreSQL), `stores/dynamodb`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jfe_cni.ratelock.budgets import Budget, Limit, Meter, Microseconds

SecretKind = Literal["password", "record", "key", "walliam"]
# "certify-pods" is asked by "certify", of an identity that names no node (`certification.py`).
Operation = Literal["check", "release", "sign", "decrypt", "mac", "certify", "certify-pods"]
Role = Literal["owner", "caller"]


@dataclass(frozen=True)
class StoredSecret:
    """`sealed`: what the operations need, sealed (`sealing.py`). `public`: what everybody may see of a key. `version`
    counts its changes, from a number by chance. `changed`: the log's number of the last change that an owner made to
    it; the store knows."""

    name: str
    kind: SecretKind
    secret_class: str
    sealed: bytes
    public: str | None
    version: int
    changed: int = field(default=0, compare=False)


@dataclass(frozen=True)
class StoredToken:
    """`digest`: SHA-256 of the token, which nobody keeps. `secrets`: names, or prefixes that end in `*`."""

    digest: bytes
    identity: str
    role: Role
    operations: frozenset[Operation]
    secrets: tuple[str, ...]
    expires: Microseconds


@dataclass(frozen=True)
class StoredBudget:
    """`pending` holds from `pending_from` on (store's clock): a change that lets more through."""

    meter: Meter
    budget: Budget
    pending: Budget | None = None
    pending_from: Microseconds | None = None


@dataclass(frozen=True)
class Attempt:
    """Charged to every meter of `meters`, and of the secret's class, that has a budget. `request_digest`: of all that
    the caller asked for; an idempotency key (unique for its caller) stands for one request alone, of the secret as it
    is: what an owner has changed since is asked for anew, and counted."""

    caller: str
    operation: Operation
    secret: str
    meters: tuple[Meter, ...]
    idempotency_key: str | None = None
    request_digest: bytes = b""


@dataclass(frozen=True)
class Admitted:
    """Counted, and in the log as entry `number`. `repeated`: it was counted before, under the same idempotency key.
    `secret`: as it was stored in the same transaction, for the answer; None where no secret is called so."""

    number: int
    repeated: bool = False
    secret: StoredSecret | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Spent:
    """Not counted, but in the log. The meter and limit that hold longest."""

    meter: Meter
    limit: Limit
    retry_after: Microseconds


@dataclass(frozen=True)
class KeyReused:
    """The idempotency key stood for another request. Nothing was counted."""


Verdict = Admitted | Spent | KeyReused


@dataclass(frozen=True)
class LogEntry:
    """`hash`: SHA-256 over `previous` and the entry's own canonical text (`log.py`). `actor`: who asked."""

    number: int
    at: Microseconds
    actor: str
    event: str
    subject: str
    detail: str
    previous: bytes
    hash: bytes


@dataclass(frozen=True)
class OwnerAct:
    """What an owner's change says of itself in the log, in the same transaction as the change."""

    actor: str
    event: str
    subject: str
    detail: str = ""


class Store(Protocol):
    async def now(self) -> Microseconds:
        """The store's clock, in microseconds since the epoch; never goes back."""
        ...

    async def ready(self) -> None:
        """Writes down the time, as a change would first. Raises StoreError where none could be made."""
        ...

    async def admit(self, attempt: Attempt) -> Verdict:
        """Counts and logs, or refuses and logs. Many at once may share one transaction; none is answered before its
        count is durable. Budgets are read in the same transaction, with the default for secrets that have none."""
        ...

    async def secret(self, name: str) -> StoredSecret | None: ...
    async def secrets(self) -> Sequence[StoredSecret]: ...
    async def put_secret(self, secret: StoredSecret, act: OwnerAct, *, expected_version: int | None) -> None:
        """`expected_version`: None, it must not exist yet. Raises ConflictError where it is another."""
        ...

    async def reseal(self, name: str, sealed: bytes, *, expected_version: int, changed: int) -> bool:
        """New sealing of the same secret (rotation, rehash), not logged, as version `expected_version + 1`, for which
        it is sealed; False where it changed meanwhile: of a secret that was removed and added again the versions begin
        anew, and `changed` does not."""
        ...

    async def remove_secret(self, name: str, act: OwnerAct) -> bool: ...

    async def budget(self, meter: Meter) -> StoredBudget | None: ...
    async def budgets(self) -> Sequence[StoredBudget]: ...
    async def set_budget(self, meter: Meter, budget: Budget | None, act: OwnerAct) -> StoredBudget | None:
        """At once where it tightens, else pending by the former budget's own delay (a budget that is new where none
        was, tightens). None removes it: it loosens."""
        ...

    async def token(self, digest: bytes) -> StoredToken | None: ...
    async def put_token(self, token: StoredToken, act: OwnerAct) -> None: ...
    async def remove_token(self, digest: bytes, act: OwnerAct) -> bool: ...

    async def append(self, act: OwnerAct) -> LogEntry: ...
    def entries(self, first: int = 1) -> AsyncIterator[LogEntry]:
        """In order, from `first` on, up to the last there is."""
        ...

    async def close(self) -> None: ...
