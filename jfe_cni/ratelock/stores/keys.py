"""Idempotency keys: which request each stands for, for ten minutes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select, tuple_

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.store import Attempt, StoredSecret
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.schema import idempotency

KEPT: Microseconds = 600 * 1_000_000
"""A caller whose network has lost an answer tries again within seconds, one that was started anew within minutes. What
is repeated is done again and not counted: no longer than that."""

# Of one transaction: others wait meanwhile.
_MOST_AT_ONCE = 256

_FIND_ONE = select(idempotency.c.digest, idempotency.c.number, idempotency.c.at).where(
    idempotency.c.caller == bindparam("of_caller"), idempotency.c.key == bindparam("of_key")
)
_FIND = select(idempotency).where(tuple_(idempotency.c.caller, idempotency.c.key).in_(bindparam("of", expanding=True)))
_OLD = (
    select(idempotency.c.caller, idempotency.c.key)
    .where(idempotency.c.at <= bindparam("until"))
    .order_by(idempotency.c.at)
    .limit(_MOST_AT_ONCE)
)
_INSERT = insert(idempotency)
_DELETE = delete(idempotency).where(
    idempotency.c.caller == bindparam("of_caller"), idempotency.c.key == bindparam("of_key")
)

# Caller and key.
Key = tuple[str, str]


@dataclass(frozen=True)
class Request:
    """`number`: of its entry in the log. `at`: when it was asked for first."""

    digest: bytes
    number: int
    at: Microseconds

    def stands(self, now: Microseconds, secret: StoredSecret | None) -> bool:
        """`secret`: that is asked for now, as it is."""
        return self.at > now - KEPT and (secret is None or self.number >= secret.changed)


def key_of(attempt: Attempt) -> Key | None:
    return None if attempt.idempotency_key is None else (attempt.caller, attempt.idempotency_key)


def known(transaction: Transaction, attempts: Iterable[Attempt]) -> dict[Key, Request]:
    """Those of their keys that are remembered, whether they stand for something still or not."""
    asked = {given for attempt in attempts if (given := key_of(attempt)) is not None}
    if not asked:
        return {}
    if len(asked) == 1:
        ((caller, key),) = asked
        rows = transaction.read(_FIND_ONE, {"of_caller": caller, "of_key": key})
        if not rows:
            return {}
        return {(caller, key): Request(*rows[0])}
    found = transaction.connection.execute(_FIND, {"of": sorted(asked)})
    return {(row.caller, row.key): Request(row.digest, row.number, row.at) for row in found}


def remember(transaction: Transaction, requests: Mapping[Key, Request], fallen: Collection[Key]) -> None:
    """`fallen`: those of them that stood for something else."""
    transaction.write(_DELETE, [{"of_caller": caller, "of_key": key} for caller, key in sorted(fallen)])
    transaction.write(
        _INSERT,
        [
            {"caller": caller, "key": key, "digest": request.digest, "number": request.number, "at": request.at}
            for (caller, key), request in requests.items()
        ],
    )


def forget(transaction: Transaction) -> bool:
    """Those whose time is over, or some of them: whether there may be more."""
    old = transaction.connection.execute(_OLD, {"until": transaction.now - KEPT}).all()
    transaction.write(_DELETE, [{"of_caller": row.caller, "of_key": row.key} for row in old])
    return len(old) == _MOST_AT_ONCE
