"""Attempts, admitted or refused some at once, in the order in which they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jfe_cni.ratelock.budgets import DEFAULT, Microseconds
from jfe_cni.ratelock.store import Admitted, Attempt, KeyReused, OwnerAct, StoredSecret, Verdict
from jfe_cni.ratelock.stores.dynamodb.histories import Histories
from jfe_cni.ratelock.stores.dynamodb.items import (
    EXPIRES,
    Value,
    attempt_key,
    idempotency_key,
    refusal_key,
    seconds,
    secret_key,
    stored_secret,
)
from jfe_cni.ratelock.stores.dynamodb.ledger import Transaction
from jfe_cni.ratelock.stores.history import History, spent
from jfe_cni.ratelock.stores.keys import KEPT, Key, Request, key_of
from jfe_cni.ratelock.stores.refusals import Refusal, refusal_entry
from jfe_cni.ratelock.stores.secrets import Secrets, charged

# A name that nobody gave to a secret is only ever a guess: DynamoDB deletes what was counted of it, after as long as
# the default looks back and a day, by which DynamoDB's expiry and the store's time may differ.
_GUESS_KEPT: Microseconds = max(limit.window for limit in DEFAULT.limits) + 86_400 * 1_000_000


@dataclass
class _Batch:
    """What one transaction does. `keys`: those that stand for something."""

    transaction: Transaction
    secrets: Mapping[str, StoredSecret | None]
    keys: dict[Key, Request]
    refusals: dict[tuple[str, str, str], Refusal] = field(default_factory=dict)
    more: dict[tuple[str, str, str], int] = field(default_factory=dict)


def admit(
    transaction: Transaction, attempts: Sequence[Attempt], histories: Histories, secrets: Secrets
) -> list[Verdict]:
    """A verdict for each of the first attempts: as many as one transaction has room for."""
    stored = secrets.of(
        transaction.head.version, [each.secret for each in attempts], partial(_read_secrets, transaction)
    )
    meters = [tuple(dict.fromkeys(charged(each, stored[each.secret]))) for each in attempts]
    touched = Counter(meter for some in meters for meter in some)
    found = histories.of(transaction, touched)
    for meter, count in touched.items():
        for ranges in found[meter].unknown(transaction.now, count):
            histories.read(transaction, found[meter], ranges)
    batch = _Batch(transaction, stored, _known_keys(transaction, attempts))
    verdicts: list[Verdict] = []
    for attempt, some in zip(attempts, meters, strict=True):
        # One for each meter, the log's entry and the idempotency key; for a refusal its entry and its count.
        if transaction.room - 2 * len(batch.refusals) < len(some) + 2:
            break
        verdicts.append(_decide(batch, attempt, [found[meter] for meter in some]))
    _write_refusals(batch)
    return verdicts


def _known_keys(transaction: Transaction, attempts: Sequence[Attempt]) -> dict[Key, Request]:
    """DynamoDB's own expiry comes up to days late: what is still there may stand for nothing."""
    asked = {given for attempt in attempts if (given := key_of(attempt)) is not None}
    found: list[Mapping[str, Any]] = list(transaction.table.get_many(idempotency_key(*each) for each in sorted(asked)))
    return {(each["caller"], each["given"]): Request(each["digest"], each["number"], each["at"]) for each in found}


def _decide(batch: _Batch, attempt: Attempt, histories: Sequence[History]) -> Verdict:
    transaction, given = batch.transaction, key_of(attempt)
    secret = batch.secrets[attempt.secret]
    before = None if given is None else batch.keys.get(given)
    # Each attempt by the secret that it asks for itself: two of one batch may have the same key.
    if before is not None and before.stands(transaction.now, secret):
        if before.digest != attempt.request_digest:
            return KeyReused()
        return Admitted(before.number, repeated=True, secret=secret)
    refused = spent(histories, transaction.now)
    if refused is not None:
        # Remembered at the latest that it may have been, an attempt seems to leave its window after more than a window.
        refused = replace(refused, retry_after=min(refused.retry_after, refused.limit.window))
        refusal = Refusal(attempt, refused)
        batch.refusals.setdefault(refusal.key, refusal)
        batch.more[refusal.key] = batch.more.get(refusal.key, 0) + 1
        return refused
    for history in histories:
        if history.budget(transaction.now) is not None:
            _count(batch, history)
    entry = transaction.append(OwnerAct(attempt.caller, attempt.operation, attempt.secret))
    if given is not None:
        batch.keys[given] = Request(attempt.request_digest, entry.number, transaction.now)
        kept: dict[str, Value | None] = {
            **idempotency_key(*given),
            "caller": attempt.caller,
            "given": attempt.idempotency_key,
            "digest": attempt.request_digest,
            "number": entry.number,
            "at": transaction.now,
            EXPIRES: seconds(transaction.now + KEPT),
        }
        transaction.write(transaction.table.put(kept))
    return Admitted(entry.number, secret=secret)


def _count(batch: _Batch, history: History) -> None:
    # At the latest that it may be, for it is compared with the earliest.
    at = batch.transaction.now + batch.transaction.timing.spread
    number = history.count(at)
    counted: dict[str, Value | None] = {
        **attempt_key(history.meter, number),
        "number": number,
        "at": at,
        EXPIRES: seconds(at + _GUESS_KEPT) if _is_guess(batch, history) else None,
    }
    batch.transaction.write(batch.transaction.table.put_new(counted))


def _is_guess(batch: _Batch, history: History) -> bool:
    meter = history.meter
    return meter.kind == "secret" and history.stored is None and batch.secrets.get(meter.name) is None


def _read_secrets(transaction: Transaction, names: Sequence[str]) -> list[StoredSecret]:
    return [stored_secret(found) for found in transaction.table.get_many(secret_key(name) for name in names)]


def _write_refusals(batch: _Batch) -> None:
    """The first of a second is an entry, the others are counted, as `stores/refusals.py` says."""
    if not batch.refusals:
        return
    transaction = batch.transaction
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for each in transaction.table.get_many([refusal_key(*key) for key in batch.refusals]):
        counting: Mapping[str, Any] = each
        found[counting["kind"], counting["name"], counting["caller"]] = counting
    for key, refusal in batch.refusals.items():
        counting = found.get(key, {})
        more = counting.get("more", 0) + batch.more[key]
        if not counting:
            transaction.append(refusal_entry(refusal))
            more -= 1
        kind, name, caller = key
        counted: dict[str, Value | None] = {
            **refusal_key(*key),
            "kind": kind,
            "name": name,
            "caller": caller,
            "since": counting.get("since", transaction.now),
            "more": more,
        }
        transaction.write(transaction.table.put(counted))
