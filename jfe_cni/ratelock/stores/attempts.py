"""Attempts, admitted or refused many at once, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, insert, select, tuple_

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.store import Admitted, Attempt, KeyReused, OwnerAct, Verdict
from jfe_cni.ratelock.stores.histories import Histories
from jfe_cni.ratelock.stores.history import History, Range, spent
from jfe_cni.ratelock.stores.ledger import Row, Transaction
from jfe_cni.ratelock.stores.refusals import Refusal, log_refusals
from jfe_cni.ratelock.stores.schema import idempotency

_KEYS = select(idempotency).where(tuple_(idempotency.c.caller, idempotency.c.key).in_(bindparam("of", expanding=True)))
_INSERT_KEYS = insert(idempotency)


@dataclass
class _Batch:
    """What one transaction does. `keys`: caller and key → the request's digest, and the log's number of its entry."""

    transaction: Transaction
    keys: dict[tuple[str, str], tuple[bytes, int]]
    new_keys: list[Row] = field(default_factory=list)
    counted: list[tuple[History, int]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def admit(transaction: Transaction, attempts: Sequence[Attempt], histories: Histories) -> list[Verdict]:
    """A verdict for each attempt."""
    now = transaction.now
    touched: dict[Meter, int] = {}
    for attempt in attempts:
        for meter in attempt.meters:
            touched[meter] = touched.get(meter, 0) + 1
    found = histories.of(transaction, touched)
    unknown: dict[Meter, list[Range]] = {}
    for meter, count in touched.items():
        if ranges := found[meter].unknown(now, count):
            unknown[meter] = ranges
    histories.read(transaction.connection, unknown)
    batch = _Batch(transaction, _known_keys(transaction, attempts))
    verdicts = [
        _decide(batch, attempt, [found[meter] for meter in dict.fromkeys(attempt.meters)]) for attempt in attempts
    ]
    histories.write(transaction, batch.counted)
    transaction.write(_INSERT_KEYS, batch.new_keys)
    log_refusals(transaction, batch.refusals)
    return verdicts


def _known_keys(transaction: Transaction, attempts: Sequence[Attempt]) -> dict[tuple[str, str], tuple[bytes, int]]:
    asked = {(each.caller, each.idempotency_key) for each in attempts if each.idempotency_key is not None}
    if not asked:
        return {}
    rows = transaction.connection.execute(_KEYS, {"of": sorted(asked)})
    return {(row.caller, row.key): (row.digest, row.number) for row in rows}


def _decide(batch: _Batch, attempt: Attempt, histories: Sequence[History]) -> Verdict:
    now, key = batch.transaction.now, attempt.idempotency_key
    if key is not None and (before := batch.keys.get((attempt.caller, key))) is not None:
        digest, number = before
        return Admitted(number, repeated=True) if digest == attempt.request_digest else KeyReused()
    refused = spent(histories, now)
    if refused is not None:
        batch.refusals.append(Refusal(attempt, refused))
        return refused
    for history in histories:
        if history.budget(now) is not None:
            batch.counted.append((history, history.count(now)))
    entry = batch.transaction.append(OwnerAct(attempt.caller, attempt.operation, attempt.secret))
    if key is not None:
        batch.keys[attempt.caller, key] = attempt.request_digest, entry.number
        row = {
            "caller": attempt.caller,
            "key": key,
            "digest": attempt.request_digest,
            "number": entry.number,
            "at": now,
        }
        batch.new_keys.append(row)
    return Admitted(entry.number)
