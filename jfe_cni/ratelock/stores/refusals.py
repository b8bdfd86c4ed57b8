"""Refused attempts in the log, bounded: who is refused may ask again at once, as often as the network carries it.

The first refusal of a caller by a meter is an entry of its own. Those that follow within a second are counted, durably,
and the count becomes one entry when the second is over: at most two entries a second for a caller and a meter, and no
refusal that is not in one of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, tuple_, update

from jfe_cni.ratelock.budgets import Meter, Microseconds
from jfe_cni.ratelock.store import Attempt, OwnerAct, Spent
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.schema import refusals

TOGETHER: Microseconds = 1_000_000

_KEY = tuple_(refusals.c.kind, refusals.c.name, refusals.c.caller)
_THIS = (
    refusals.c.kind == bindparam("of_kind"),
    refusals.c.name == bindparam("of_name"),
    refusals.c.caller == bindparam("of_caller"),
)
_FIND = select(refusals).where(_KEY.in_(bindparam("of", expanding=True)))
_DUE = select(refusals).where(refusals.c.since <= bindparam("until")).order_by(refusals.c.since).limit(256)
_INSERT = insert(refusals)
_MORE = update(refusals).where(*_THIS).values(more=refusals.c.more + bindparam("counted"))
_DELETE = delete(refusals).where(*_THIS)


@dataclass(frozen=True)
class Refusal:
    attempt: Attempt
    spent: Spent

    @property
    def key(self) -> tuple[str, str, str]:
        return self.spent.meter.kind, self.spent.meter.name, self.attempt.caller


def log_refusals(transaction: Transaction, refused: Sequence[Refusal]) -> None:
    if not refused:
        return
    found = transaction.connection.execute(_FIND, {"of": sorted({each.key for each in refused})})
    counting = {(row.kind, row.name, row.caller) for row in found}
    more: dict[tuple[str, str, str], int] = {}
    new = []
    for each in refused:
        if each.key in counting or each.key in more:
            more[each.key] = more.get(each.key, 0) + 1
        else:
            more[each.key] = 0
            new.append(each.key)
            transaction.append(refusal_entry(each))
    rows = [_columns(key, transaction.now, more.pop(key)) for key in new]
    transaction.write(_INSERT, rows)
    transaction.write(_MORE, [{**_named(key), "counted": count} for key, count in more.items()])


def log_counted(transaction: Transaction) -> None:
    """The counts whose second is over."""
    due = transaction.connection.execute(_DUE, {"until": transaction.now - TOGETHER}).all()
    for row in due:
        if row.more:
            transaction.append(counted_entry(row.kind, row.name, row.caller, row.since, row.more))
    transaction.write(_DELETE, [_named((row.kind, row.name, row.caller)) for row in due])


def refusal_entry(refusal: Refusal) -> OwnerAct:
    attempt, spent = refusal.attempt, refusal.spent
    said = {
        "operation": attempt.operation,
        "meter": _meter_words(spent.meter),
        "limit": [spent.limit.count, spent.limit.window],
    }
    return OwnerAct(attempt.caller, "refused", attempt.secret, json.dumps(said))


def counted_entry(kind: str, name: str, caller: str, since: Microseconds, more: int) -> OwnerAct:
    said = {"meter": [kind, name], "more": more, "since": since}
    return OwnerAct(caller, "refused", name if kind == "secret" else "", json.dumps(said))


def _meter_words(meter: Meter) -> list[str]:
    return [meter.kind, meter.name]


def _columns(key: tuple[str, str, str], since: Microseconds, more: int) -> dict[str, Any]:
    kind, name, caller = key
    return {"kind": kind, "name": name, "caller": caller, "since": since, "more": more}


def _named(key: tuple[str, str, str]) -> dict[str, str]:
    kind, name, caller = key
    return {"of_kind": kind, "of_name": name, "of_caller": caller}
