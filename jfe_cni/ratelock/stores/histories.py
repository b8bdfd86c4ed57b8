"""The histories of meters, read from the database and remembered while no other replica has written."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, or_, select, tuple_, update

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.store import StoredBudget
from jfe_cni.ratelock.stores.history import History, Range
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.rows import budget_columns, stored_budget
from jfe_cni.ratelock.stores.schema import attempts, meters

_MOST_REMEMBERED = 10_000
# As many ranges as one query reads at most.
_MOST_RANGES = 64

_LAST_NUMBER = (
    select(func.max(attempts.c.number)).where(attempts.c.meter == meters.c.id).scalar_subquery().label("admitted")
)
_BY_NAME = select(meters, _LAST_NUMBER).where(tuple_(meters.c.kind, meters.c.name).in_(bindparam("of", expanding=True)))
_AT = select(attempts.c.at).where(attempts.c.meter == bindparam("of"), attempts.c.number == bindparam("last"))
_INSERT_METER = insert(meters)
# SQLite's row numbers and PostgreSQL's bigint: 63 bits without a sign.
_ID_BITS = 63
_FORGET = delete(attempts).where(attempts.c.meter == bindparam("of"), attempts.c.number <= bindparam("last"))
_SET_BUDGET = update(meters).where(meters.c.id == bindparam("of"))
_PRUNED = (
    update(meters).where(meters.c.id == bindparam("of")).values(pruned=bindparam("last"), pruned_at=bindparam("was"))
)


class Histories:
    def __init__(self) -> None:
        self._remembered: dict[Meter, History] = {}
        self._version = -1

    def of(self, transaction: Transaction, wanted: Iterable[Meter]) -> Mapping[Meter, History]:
        """These meters' histories, and perhaps others. They are read anew the next time, unless `keep` is called."""
        if transaction.version != self._version or len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.clear()
        # What is done to them may be undone with the transaction.
        self._version = -1
        missing = [meter for meter in wanted if meter not in self._remembered]
        if missing:
            # Kept when all is read: what a lost connection leaves unread is not known to have no budget.
            self._remembered.update(_read(transaction, missing))
        return self._remembered

    def keep(self, version: int) -> None:
        """What was done to them since `of` is in the database, as this version of it."""
        self._version = version

    def read(self, transaction: Transaction, ranges: Mapping[Meter, Sequence[Range]]) -> None:
        histories = {history.id: history for meter in ranges for history in [self._remembered[meter]]}
        wanted = iter(
            [(self._remembered[meter].id, first, last) for meter, some in ranges.items() for first, last in some]
        )
        while some := list(islice(wanted, _MOST_RANGES)):
            # Of few lengths, so that few statements are compiled and prepared.
            some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
            for row in transaction.connection.execute(select(attempts).where(or_(*(_within(*each) for each in some)))):
                histories[row.meter].known[row.number] = row.at

    def insert(self, transaction: Transaction, new: Sequence[History]) -> None:
        """Rows for histories that have none."""
        # Numbered here, and sent with all else: a number of the database's would be one more answer to wait for, which
        # would tell by time a name that had not been asked for.
        for history in new:
            history.id = secrets.randbits(_ID_BITS)
        transaction.write(_INSERT_METER, [_meter_columns(history) for history in new])

    def write(self, transaction: Transaction, counted: Sequence[tuple[History, int]]) -> None:
        """Attempts that were counted, by their numbers; and what they make superfluous goes."""
        histories = list({id(history): history for history, _ in counted}.values())
        self.insert(transaction, [history for history in histories if history.id is None])
        for history, number in counted:
            assert history.id is not None
            transaction.count(history.id, number, history.known[number])
        for history in histories:
            self._prune(transaction, history)

    def set_budget(self, transaction: Transaction, meter: Meter, stored: StoredBudget | None) -> None:
        history = self._remembered[meter]
        history.stored = stored
        if history.id is None:
            self.insert(transaction, [history])
        else:
            transaction.write(_SET_BUDGET, [{"of": history.id, **budget_columns(stored)}])

    def _prune(self, transaction: Transaction, history: History) -> None:
        superfluous = history.superfluous()
        if superfluous is None:
            return
        _, last = superfluous
        at = history.known.get(last)
        if at is None:
            at = transaction.connection.execute(_AT, {"of": history.id, "last": last}).scalar_one()
        history.pruned, history.pruned_at = last, at
        transaction.write(_FORGET, [{"of": history.id, "last": last}])
        transaction.write(_PRUNED, [{"of": history.id, "last": last, "was": at}])


def _read(transaction: Transaction, missing: Sequence[Meter]) -> dict[Meter, History]:
    found = {meter: History(meter) for meter in missing}
    names = [(meter.kind, meter.name) for meter in missing]
    for row in transaction.connection.execute(_BY_NAME, {"of": names}):
        meter, admitted = Meter(row.kind, row.name), max(row.admitted or 0, row.pruned)
        found[meter] = History(meter, row.id, stored_budget(row), admitted, row.pruned, row.pruned_at)
    return found


def _within(meter: int | None, first: int, last: int) -> ColumnElement[bool]:
    return and_(attempts.c.meter == meter, attempts.c.number.between(first, last))


def _meter_columns(history: History) -> dict[str, Any]:
    return {
        "id": history.id,
        "kind": history.meter.kind,
        "name": history.meter.name,
        **budget_columns(history.stored),
        "pruned": 0,
        "pruned_at": 0,
    }
