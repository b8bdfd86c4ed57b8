"""The histories of meters, read from the table and remembered while no other replica has written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.store import StoredBudget
from jfe_cni.ratelock.stores.dynamodb.items import (
    PRUNED,
    SORT,
    Item,
    budget_key,
    meter_partition,
    padded,
    stored_budget,
)
from jfe_cni.ratelock.stores.dynamodb.ledger import Transaction
from jfe_cni.ratelock.stores.history import History, Range

_MOST_REMEMBERED = 10_000


class Histories:
    def __init__(self) -> None:
        self._remembered: dict[Meter, History] = {}
        self._version = -1

    def of(self, transaction: Transaction, wanted: Iterable[Meter]) -> Mapping[Meter, History]:
        """These meters' histories, and perhaps others. They are read anew the next time, unless `keep` is called."""
        if transaction.head.version != self._version or len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.clear()
        self._version = -1
        missing = [meter for meter in dict.fromkeys(wanted) if meter not in self._remembered]
        if missing:
            self._read(transaction, missing)
        return self._remembered

    def keep(self, version: int) -> None:
        """What was done to them since `of` is in the table, as this version of it."""
        self._version = version

    def superfluous(self) -> set[Meter]:
        """Those that are remembered of whose attempts some can be forgotten."""
        return {meter for meter, history in self._remembered.items() if history.superfluous() is not None}

    def read(self, transaction: Transaction, history: History, some: Range) -> None:
        """What DynamoDB has let expire counts as of the time of the next that is left, which is later; as of now, where
        none is."""
        first, last = some
        found: list[dict[str, Any]] = list(
            transaction.table.between(
                meter_partition(history.meter), padded(first), padded(history.admitted), last - first + 1
            )
        )
        left = iter(found)
        each = next(left, None)
        for number in range(first, last + 1):
            while each is not None and each["number"] < number:
                each = next(left, None)
            history.known[number] = transaction.now if each is None else each["at"]

    def _read(self, transaction: Transaction, missing: list[Meter]) -> None:
        table = transaction.table
        found = [stored_budget(each) for each in table.get_many(budget_key(meter) for meter in missing)]
        budgets: dict[Meter, StoredBudget] = {stored.meter: stored for stored in found}
        for meter in missing:
            history = History(meter, stored=budgets.get(meter))
            if history.budget(transaction.now) is not None:
                _read_last(history, table.last(meter_partition(meter), 2))
            self._remembered[meter] = history


def _read_last(history: History, found: Iterable[Item]) -> None:
    """`pruned` sorts after all numbers."""
    for each in found:
        values: dict[str, Any] = dict(each)
        if values[SORT] == PRUNED:
            history.pruned, history.pruned_at = values["number"], values["at"]
            history.admitted = max(history.admitted, history.pruned)
        else:
            history.admitted = max(history.admitted, values["number"])
