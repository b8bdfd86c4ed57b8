"""What is due from time to time: refusals that were counted go into the log, and attempts that no limit looks at go.
Idempotency keys and guesses at names go by DynamoDB's own expiry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.stores.dynamodb.histories import Histories
from jfe_cni.ratelock.stores.dynamodb.items import key, meter_partition, padded, pruned_key
from jfe_cni.ratelock.stores.dynamodb.ledger import Transaction
from jfe_cni.ratelock.stores.dynamodb.table import Table
from jfe_cni.ratelock.stores.refusals import TOGETHER, counted_entry


def log_counted(transaction: Transaction) -> bool:
    """The counts whose second is over. Whether there are others, or more than one transaction has room for."""
    left = False
    for each in transaction.table.all("refusal"):
        counting: Mapping[str, Any] = each
        if counting["since"] > transaction.now - TOGETHER or transaction.room < 2:
            left = True
            continue
        kind, name, caller, more = counting["kind"], counting["name"], counting["caller"], counting["more"]
        if more:
            transaction.append(counted_entry(kind, name, caller, counting["since"], more))
        transaction.write(transaction.table.delete(key("refusal", counting["sort"])))
    return left


def prune(transaction: Transaction, histories: Histories, meter: Meter) -> int | None:
    """Marks what no limit can ask for again as forgotten; up to which number, None where it is little."""
    history = histories.of(transaction, [meter])[meter]
    superfluous = history.superfluous()
    if superfluous is None:
        return None
    _, last = superfluous
    if last not in history.known:
        histories.read(transaction, history, (last, last))
    marked = {**pruned_key(meter), "number": last, "at": history.known[last]}
    transaction.write(transaction.table.put(marked))
    return last


def delete_pruned(table: Table, meter: Meter, last: int) -> None:
    """Once the mark is there nobody reads them; what a crash leaves here goes the next time."""
    partition = meter_partition(meter)
    some = table.between(partition, padded(0), padded(last))
    table.delete_many(key(partition, str(each["sort"])) for each in some)
