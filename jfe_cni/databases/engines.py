"""Connections to the two SQL databases, with commits that are durable when they return."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError

from jfe_cni.errors import RequestError

# Milliseconds that SQLite waits for another process's transaction.
_SQLITE_PATIENCE = 10_000
READERS = 4

# A replica that stops in the middle of a transaction (its host is gone, or stands still) holds all others up for that
# long at most. Nothing that was answered may be lost, whatever the server's default.
_POSTGRESQL_SESSION = (
    "-c synchronous_commit=on -c idle_in_transaction_session_timeout=10s"
    # The server's own, for a replica that has vanished from the network.
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10s"
)
# Seconds until a server is given up that takes what is sent and answers nothing: it stands still, or its host does, and
# no keepalive tells. More than it takes, at most, to end another replica's transaction (lock_timeout).
_POSTGRESQL_PATIENCE = 15.0
_POSTGRESQL_LIMITS = " -c lock_timeout=10s -c statement_timeout=30s"
# A migration may copy a large table, and another replica waits for it: one that stands still is given up all the same.
_MIGRATION_PATIENCE = 600.0
_MIGRATION_LIMITS = " -c lock_timeout=600s -c statement_timeout=600s"
# Seconds until a server that has vanished from the network is given up.
_POSTGRESQL_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


_Answer = TypeVar("_Answer")


class _Impatient(psycopg.Connection[Any]):
    """Waits for no answer forever. Raises psycopg.OperationalError."""

    patience = _POSTGRESQL_PATIENCE

    def wait(self, gen: PQGen[_Answer], interval: float = 0.1, timeout: float | None = None) -> _Answer:
        return super().wait(gen, interval, self.patience if timeout is None else timeout)


class _Migrating(_Impatient):
    patience = _MIGRATION_PATIENCE


def sql_url(text: str, what: str) -> URL:
    """Of SQLite or PostgreSQL. `what`: of what it is the URL, for the message. Raises RequestError."""
    try:
        parsed = make_url(text)
    except ArgumentError:
        parsed = URL.create("")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        # Not the URL itself: it may have a password in it.
        raise RequestError(
            f"{what}'s URL is of no kind that is known", remedy="give sqlite:///PATH or postgresql://HOST/DATABASE"
        )
    return parsed


def writer(url: URL) -> Engine:
    """For the one thread that writes. On SQLite BEGIN takes the write lock."""
    if url.get_backend_name() == "sqlite":
        engine = _sqlite(url)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    return _postgresql(url, pool_size=1)


def reader(url: URL) -> Engine:
    """For `READERS` threads that read, each statement for itself."""
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url, pool_size=READERS)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def migrator(url: URL) -> Engine:
    """For `upgrade.upgrade` alone, which may take long."""
    if url.get_backend_name() == "sqlite":
        return writer(url)
    return _postgresql(url, pool_size=1, limits=_MIGRATION_LIMITS, connected=_Migrating)


def _postgresql(
    url: URL, pool_size: int, limits: str = _POSTGRESQL_LIMITS, connected: type[_Impatient] = _Impatient
) -> Engine:
    options = {"options": _POSTGRESQL_SESSION + limits}
    url = url.set(drivername="postgresql+psycopg").update_query_dict(options, append=True)
    given = url.query["options"]
    session = given if isinstance(given, str) else " ".join(given)
    engine = create_engine(
        url.update_query_dict({"options": session}),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=pool_size > 1,
        hide_parameters=True,
        connect_args=_POSTGRESQL_CONNECTION,
    )

    def connect(_dialect: object, _record: object, words: list[Any], options: dict[str, Any]) -> _Impatient:
        return connected.connect(*words, **options)

    event.listen(engine, "do_connect", connect)
    return engine


def _sqlite(url: URL) -> Engine:
    if url.database in {None, "", ":memory:"}:
        raise RequestError("a store in memory forgets what was counted", remedy="name a file: sqlite:///PATH")
    engine = create_engine(url.set(drivername="sqlite+pysqlite"), hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def make_private(path: Path) -> None:
    """A new database is its owner's alone from its first byte on; its WAL takes the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _set_up_sqlite(connection: DBAPIConnection, _: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    # The driver begins no transaction of its own: `_begin_immediate` does, or whoever speaks to the driver itself.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_PATIENCE:d}")
    connection.execute("PRAGMA journal_mode = WAL")
    # Each commit is on the disk when it returns (sqlite.org/pragma.html#pragma_synchronous); NORMAL would lose some.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    # Who speaks to the driver itself has begun already, and SQLAlchemy, who runs a statement there, thinks it begins.
    if not driver.in_transaction:
        driver.execute("BEGIN IMMEDIATE")
