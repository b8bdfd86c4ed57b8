"""Idempotency keys: which request each stands for, for a day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select, tuple_

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.store import Attempt
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.schema import idempotency

# A caller that tries again tries again within a day.
KEPT: Microseconds = 86_400 * 1_000_000

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
    """`number`: of its entry in the log."""

    digest: bytes
    number: int


def key_of(attempt: Attempt) -> Key | None:
    return None if attempt.idempotency_key is None else (attempt.caller, attempt.idempotency_key)


def known(transaction: Transaction, attempts: Iterable[Attempt]) -> dict[Key, Request]:
    asked = {key for attempt in attempts if (key := key_of(attempt)) is not None}
    found = _find(transaction, asked)
    old = [key for key, (_, at) in found.items() if at <= transaction.now - KEPT]
    transaction.write(_DELETE, [{"of_caller": caller, "of_key": key} for caller, key in old])
    return {key: request for key, (request, _) in found.items() if key not in old}


def _find(transaction: Transaction, asked: Collection[Key]) -> dict[Key, tuple[Request, Microseconds]]:
    """With the time at which it was asked for first."""
    if not asked:
        return {}
    if len(asked) == 1:
        ((caller, key),) = asked
        rows = transaction.read(_FIND_ONE, {"of_caller": caller, "of_key": key})
        if not rows:
            return {}
        digest, number, at = rows[0]
        return {(caller, key): (Request(digest, number), at)}
    found = transaction.connection.execute(_FIND, {"of": sorted(asked)})
    return {(row.caller, row.key): (Request(row.digest, row.number), row.at) for row in found}


def remember(transaction: Transaction, requests: Mapping[Key, Request]) -> None:
    transaction.write(
        _INSERT,
        [
            {"caller": caller, "key": key, "digest": request.digest, "number": request.number, "at": transaction.now}
            for (caller, key), request in requests.items()
        ],
    )


def forget(transaction: Transaction) -> bool:
    """Those whose day is over, or some of them: whether there may be more."""
    old = transaction.connection.execute(_OLD, {"until": transaction.now - KEPT}).all()
    transaction.write(_DELETE, [{"of_caller": row.caller, "of_key": row.key} for row in old])
    return len(old) == _MOST_AT_ONCE
