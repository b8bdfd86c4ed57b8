"""Attempts, admitted or refused many at once, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.store import Admitted, Attempt, KeyReused, OwnerAct, StoredSecret, Verdict
from jfe_cni.ratelock.stores import schema
from jfe_cni.ratelock.stores.histories import Histories
from jfe_cni.ratelock.stores.history import History, Range, spent
from jfe_cni.ratelock.stores.keys import Key, Request, key_of, known, remember
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.refusals import Refusal, log_refusals
from jfe_cni.ratelock.stores.rows import stored_secret
from jfe_cni.ratelock.stores.secrets import Secrets, charged

_SECRETS = select(schema.secrets).where(schema.secrets.c.name.in_(bindparam("of", expanding=True)))


@dataclass
class _Batch:
    """What one transaction does. `keys`: those that the database has, and `new_keys`; `fallen`: of these, those that
    the database has too, for what was asked for before."""

    transaction: Transaction
    keys: dict[Key, Request]
    new_keys: dict[Key, Request] = field(default_factory=dict)
    fallen: set[Key] = field(default_factory=set)
    counted: list[tuple[History, int]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def admit(
    transaction: Transaction, attempts: Sequence[Attempt], histories: Histories, secrets: Secrets
) -> list[Verdict]:
    """A verdict for each attempt."""
    now = transaction.now
    names = (attempt.secret for attempt in attempts)
    stored = secrets.of(transaction.version, names, lambda missing: _read_secrets(transaction, missing))
    meters = [dict.fromkeys(charged(attempt, stored[attempt.secret])) for attempt in attempts]
    touched: dict[Meter, int] = {}
    for each in meters:
        for meter in each:
            touched[meter] = touched.get(meter, 0) + 1
    found = histories.of(transaction, touched)
    unknown: dict[Meter, list[Range]] = {}
    for meter, count in touched.items():
        if ranges := found[meter].unknown(now, count):
            unknown[meter] = ranges
    histories.read(transaction, unknown)
    batch = _Batch(transaction, known(transaction, attempts))
    verdicts = [
        _decide(batch, attempt, stored[attempt.secret], [found[meter] for meter in each])
        for attempt, each in zip(attempts, meters, strict=True)
    ]
    histories.write(transaction, batch.counted)
    remember(transaction, batch.new_keys, batch.fallen)
    log_refusals(transaction, batch.refusals)
    return verdicts


def _read_secrets(transaction: Transaction, names: Sequence[str]) -> list[StoredSecret]:
    return [stored_secret(row) for row in transaction.connection.execute(_SECRETS, {"of": names})]


def _decide(batch: _Batch, attempt: Attempt, secret: StoredSecret | None, histories: Sequence[History]) -> Verdict:
    now, key = batch.transaction.now, key_of(attempt)
    before = None if key is None else batch.keys.get(key)
    # Each attempt by the secret that it asks for itself: two of one batch may have the same key.
    if before is not None and before.stands(now, secret):
        if before.digest != attempt.request_digest:
            return KeyReused()
        return Admitted(before.number, repeated=True, secret=secret)
    refused = spent(histories, now)
    if refused is not None:
        batch.refusals.append(Refusal(attempt, refused))
        return refused
    for history in histories:
        if history.budget(now) is not None:
            batch.counted.append((history, history.count(now)))
    entry = batch.transaction.append(OwnerAct(attempt.caller, attempt.operation, attempt.secret))
    if key is not None:
        if before is not None and key not in batch.new_keys:
            batch.fallen.add(key)
        batch.keys[key] = batch.new_keys[key] = Request(attempt.request_digest, entry.number, now)
    return Admitted(entry.number, secret=secret)
