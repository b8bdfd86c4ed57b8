"""What owners change: each with its entry in the log, in one transaction."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from jfe_cni.errors import ConflictError
from jfe_cni.ratelock.budget_changes import changed
from jfe_cni.ratelock.budgets import Budget, Meter
from jfe_cni.ratelock.store import OwnerAct, StoredBudget, StoredSecret, StoredToken
from jfe_cni.ratelock.stores.histories import Histories
from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.rows import token_columns
from jfe_cni.ratelock.stores.schema import secrets, tokens

_INSERT_SECRET = insert(secrets)
_UPDATE_SECRET = update(secrets).where(secrets.c.name == bindparam("of"))
_DELETE_SECRET = delete(secrets).where(secrets.c.name == bindparam("of"))
_INSERT_TOKEN = insert(tokens)
_DELETE_TOKEN = delete(tokens).where(tokens.c.digest == bindparam("of"))


def _version(transaction: Transaction, name: str) -> int | None:
    return transaction.connection.execute(select(secrets.c.version).where(secrets.c.name == name)).scalar_one_or_none()


def put_secret(transaction: Transaction, secret: StoredSecret, act: OwnerAct, expected_version: int | None) -> None:
    found = _version(transaction, secret.name)
    if found != expected_version:
        raise ConflictError(
            f"the secret {secret.name} is there already" if expected_version is None else f"{secret.name} has changed",
            remedy="remove it first" if expected_version is None else "look at it again, then decide anew",
        )
    row = {**vars(secret), "changed": transaction.append(act).number}
    if found is None:
        transaction.write(_INSERT_SECRET, [row])
    else:
        transaction.write(_UPDATE_SECRET, [{"of": secret.name, **row}])


def reseal(transaction: Transaction, name: str, sealed: bytes, expected_version: int, changed: int) -> bool:
    same = (secrets.c.name == name, secrets.c.version == expected_version, secrets.c.changed == changed)
    if transaction.connection.execute(select(secrets.c.version).where(*same)).first() is None:
        return False
    transaction.write(_UPDATE_SECRET, [{"of": name, "sealed": sealed, "version": expected_version + 1}])
    return True


def remove_secret(transaction: Transaction, name: str, act: OwnerAct) -> bool:
    if _version(transaction, name) is None:
        return False
    transaction.write(_DELETE_SECRET, [{"of": name}])
    transaction.append(act)
    return True


def set_budget(
    transaction: Transaction, histories: Histories, meter: Meter, wanted: Budget | None, act: OwnerAct
) -> StoredBudget | None:
    history = histories.of(transaction, [meter])[meter]
    kept = changed(meter, history.stored, wanted, transaction.now)
    histories.set_budget(transaction, meter, kept)
    transaction.append(act)
    return kept


def put_token(transaction: Transaction, token: StoredToken, act: OwnerAct) -> None:
    """A token of the same digest is replaced."""
    transaction.write(_DELETE_TOKEN, [{"of": token.digest}])
    transaction.write(_INSERT_TOKEN, [token_columns(token)])
    transaction.append(act)


def remove_token(transaction: Transaction, digest: bytes, act: OwnerAct) -> bool:
    if transaction.connection.execute(select(tokens.c.digest).where(tokens.c.digest == digest)).first() is None:
        return False
    transaction.write(_DELETE_TOKEN, [{"of": digest}])
    transaction.append(act)
    return True
