"""Rows of the SQL stores, to and from what they stand for. Pure."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.store import LogEntry, StoredBudget, StoredSecret, StoredToken


def budget_text(budget: Budget | None) -> str | None:
    if budget is None:
        return None
    limits = [[limit.count, limit.window] for limit in budget.limits]
    return json.dumps({"limits": limits, "loosening_delay": budget.loosening_delay})


def read_budget(text: str | None) -> Budget | None:
    if text is None:
        return None
    read = json.loads(text)
    return Budget(tuple(Limit(count, window) for count, window in read["limits"]), read["loosening_delay"])


def budget_columns(stored: StoredBudget | None) -> dict[str, Any]:
    if stored is None:
        return {"budget": None, "pending": None, "pending_from": None}
    return {
        "budget": budget_text(stored.budget),
        "pending": budget_text(stored.pending),
        "pending_from": stored.pending_from,
    }


def stored_budget(row: Row[Any]) -> StoredBudget | None:
    budget = read_budget(row.budget)
    if budget is None:
        return None
    return StoredBudget(Meter(row.kind, row.name), budget, read_budget(row.pending), row.pending_from)


def stored_secret(row: Row[Any]) -> StoredSecret:
    return StoredSecret(row.name, row.kind, row.secret_class, row.sealed, row.public, row.version, row.changed)


def token_columns(token: StoredToken) -> dict[str, Any]:
    return {
        **vars(token),
        "operations": json.dumps(sorted(token.operations)),
        "secrets": json.dumps(token.secrets),
    }


def stored_token(row: Row[Any]) -> StoredToken:
    operations, secrets = frozenset(json.loads(row.operations)), tuple(json.loads(row.secrets))
    return StoredToken(row.digest, row.identity, row.role, operations, secrets, row.expires)


def log_entry(row: Row[Any]) -> LogEntry:
    return LogEntry(row.number, row.at, row.actor, row.event, row.subject, row.detail, row.previous, row.hash)
