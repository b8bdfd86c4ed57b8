"""What the two drivers and SQLAlchemy raise, and what becomes of it."""

from __future__ import annotations

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError

from jfe_cni.errors import StoreError

# All that a statement may raise, run by SQLAlchemy or given to the driver.
DATABASE_ERRORS = (DBAPIError, sqlite3.Error, psycopg.Error)

# The database was away, busy or full, or has ended the transaction in favour of another (PEP 249); or for having stood
# still, which PostgreSQL has among "invalid transaction states" (25P03, 25P04), and so psycopg among internal errors.
_PASSING = (
    sqlite3.OperationalError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)


def _of_driver(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def may_pass(error: Exception) -> bool:
    """Whether the same transaction may succeed when it is tried again, on a new connection."""
    return isinstance(_of_driver(error), _PASSING)


def store_error(error: Exception) -> StoreError:
    """The database's own words, without the statement and its values."""
    original = _of_driver(error)
    words = str(original).strip().splitlines() or [type(original).__name__]
    return StoreError(f"the store has failed: {words[0]}", remedy="see that its database runs and can be reached")
