"""What owners change: each with its entry in the log, in one transaction."""

from __future__ import annotations

from dataclasses import replace

from jfe_cni.errors import ConflictError
from jfe_cni.ratelock.budget_changes import changed
from jfe_cni.ratelock.budgets import Budget, Meter
from jfe_cni.ratelock.store import OwnerAct, StoredBudget, StoredSecret, StoredToken
from jfe_cni.ratelock.stores.dynamodb import items
from jfe_cni.ratelock.stores.dynamodb.ledger import Transaction


def _secret(transaction: Transaction, name: str) -> StoredSecret | None:
    found = transaction.table.get(items.secret_key(name))
    return None if found is None else items.stored_secret(found)


def put_secret(transaction: Transaction, secret: StoredSecret, act: OwnerAct, expected_version: int | None) -> None:
    found = _secret(transaction, secret.name)
    if (None if found is None else found.version) != expected_version:
        raise ConflictError(
            f"the secret {secret.name} is there already" if expected_version is None else f"{secret.name} has changed",
            remedy="remove it first" if expected_version is None else "look at it again, then decide anew",
        )
    entry = transaction.append(act)
    transaction.write(transaction.table.put(items.secret_item(replace(secret, changed=entry.number))))


def reseal(transaction: Transaction, name: str, sealed: bytes, expected_version: int, changed: int) -> bool:
    found = _secret(transaction, name)
    if found is None or (found.version, found.changed) != (expected_version, changed):
        return False
    anew = replace(found, sealed=sealed, version=expected_version + 1)
    transaction.write(transaction.table.put(items.secret_item(anew)))
    return True


def remove_secret(transaction: Transaction, name: str, act: OwnerAct) -> bool:
    return _remove(transaction, items.secret_key(name), act)


def set_budget(transaction: Transaction, meter: Meter, wanted: Budget | None, act: OwnerAct) -> StoredBudget | None:
    found = transaction.table.get(items.budget_key(meter))
    kept = changed(meter, None if found is None else items.stored_budget(found), wanted, transaction.now)
    if kept is None:
        transaction.write(transaction.table.delete(items.budget_key(meter)))
    else:
        transaction.write(transaction.table.put(items.budget_item(kept)))
    transaction.append(act)
    return kept


def put_token(transaction: Transaction, token: StoredToken, act: OwnerAct) -> None:
    """A token of the same digest is replaced."""
    transaction.write(transaction.table.put(items.token_item(token)))
    transaction.append(act)


def remove_token(transaction: Transaction, digest: bytes, act: OwnerAct) -> bool:
    return _remove(transaction, items.token_key(digest), act)


def _remove(transaction: Transaction, key: items.Item, act: OwnerAct) -> bool:
    if transaction.table.get(key) is None:
        return False
    transaction.write(transaction.table.delete(key))
    transaction.append(act)
    return True
