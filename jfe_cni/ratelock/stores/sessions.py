"""The connection on which a store writes. Its transactions are begun and ended at the driver, in as few round trips as
there can be: SQLAlchemy compiles the statements, runs those that are seldom asked, and knows of no transaction here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import BigInteger, ClauseElement, Connection, Dialect, Engine, cast, func, insert, select

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.stores.clock import Moment
from jfe_cni.ratelock.stores.schema import attempts, head, log
from jfe_cni.ratelock.stores.statements import Statements, Values
from jfe_cni.ratelock.stores.written import (
    BY_ARRAY,
    MOST_BY_VALUE,
    UPDATE_HEAD,
    Written,
    arrays_of,
    by_value,
    values_of,
)

SERVER_TIME = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
"""PostgreSQL's clock, in microseconds."""

_COLUMNS = (head.c.version, head.c.number, head.c.hash, head.c.at, head.c.boot_id, head.c.boottime, head.c.wall)


@dataclass(frozen=True)
class Head:
    """The head's row; `server`: the database server's clock, 0 where it has none."""

    version: int
    number: int
    hash: bytes
    moment: Moment
    server: Microseconds


class Session(ABC):
    """For one thread at a time. `connection`: for what SQLAlchemy asks in the transaction that was begun. All raise the
    driver's errors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # One of two drivers' connections, of which SQLAlchemy says nothing.
        self._driver: Any = connection.connection.driver_connection
        self._statements = Statements(connection.dialect)

    @property
    def connection(self) -> Connection:
        return self._connection

    @abstractmethod
    def begin(self) -> Head:
        """Nobody else writes from now on, until this transaction has ended."""

    @abstractmethod
    def commit(self, written: Written) -> None:
        """Durable when it returns."""

    @abstractmethod
    def end(self) -> None:
        """What was not committed is undone."""

    def read(self, statement: ClauseElement, values: Values) -> Sequence[Sequence[Any]]:
        """Rows as the driver has them."""
        rows: Sequence[Sequence[Any]] = self._statements.run(self._driver, statement, [values]).fetchall()
        return rows

    def discard(self) -> None:
        """What failed once is not used again: its transaction may be in any state."""
        self._connection.invalidate()
        self._connection.close()

    def _run(self, statement: ClauseElement, rows: Sequence[Values]) -> None:
        self._statements.run(self._driver, statement, rows)


def session(engine: Engine) -> Session:
    """A new one. `engine`: of `engines.writer`."""
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        return SqliteSession(connection)
    return PostgresqlSession(connection.execution_options(isolation_level="AUTOCOMMIT"))


class SqliteSession(Session):
    """`engines.py` has told the driver to begin no transaction by itself."""

    _insert_attempts = insert(attempts)
    _insert_log = insert(log)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._select_head = _text(select(*_COLUMNS), connection.dialect)

    def begin(self) -> Head:
        # A lock from the beginning: one that is taken at the first write may come too late for what was read.
        self._driver.execute("BEGIN IMMEDIATE")
        return _head(self._driver.execute(self._select_head).fetchone(), 0)

    def commit(self, written: Written) -> None:
        for statement, rows in written.others:
            self._run(statement, rows)
        if written.counts:
            self._run(self._insert_attempts, written.counts)
        if written.entries:
            self._run(self._insert_log, [vars(entry) for entry in written.entries])
        self._run(UPDATE_HEAD, [written.head])
        self._driver.execute("COMMIT")

    def end(self) -> None:
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")


class PostgresqlSession(Session):
    """Two round trips a transaction: it is in psycopg's pipeline mode, in which what is sent is answered when an answer
    is asked for, but while SQLAlchemy asks, who doesn't know of it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        # The clock is read outside: what is selected FOR UPDATE is computed before the lock is there.
        locked = select(*_COLUMNS).with_for_update().cte("locked")
        self._lock_head = _text(select(locked, SERVER_TIME), connection.dialect)
        self._entered = ExitStack()
        self._pipeline: psycopg.Pipeline | None = None
        self._in_transaction = False

    @property
    def connection(self) -> Connection:
        self._leave_pipeline()
        return self._connection

    def begin(self) -> Head:
        pipeline = self._in_pipeline()
        self._in_transaction = True
        self._driver.execute("BEGIN")
        locked = self._driver.execute(self._lock_head)
        # Not for the answer, which would come without: only a server that has said that it is ready for more counts
        # how long it is kept waiting, and ends the transaction of a replica that stands still.
        pipeline.sync()
        *row, server = locked.fetchone()
        return _head(row, server)

    def read(self, statement: ClauseElement, values: Values) -> Sequence[Sequence[Any]]:
        pipeline = self._in_pipeline()
        cursor = self._statements.run(self._driver, statement, [values])
        pipeline.sync()
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows

    def commit(self, written: Written) -> None:
        pipeline = self._in_pipeline()
        for statement, rows in written.others:
            self._run(statement, rows)
        if len(written.entries) == 1 and len(written.counts) <= MOST_BY_VALUE:
            self._run(by_value(len(written.counts)), [values_of(written)])
        else:
            self._run(BY_ARRAY, [arrays_of(written)])
        self._driver.execute("COMMIT")
        pipeline.sync()
        self._in_transaction = False

    def end(self) -> None:
        # In a pipeline the driver does not know by itself whether there is anything to undo, and would ask.
        if self._in_transaction:
            self._driver.rollback()
            self._in_transaction = False

    def discard(self) -> None:
        # First, or the pipeline waits once more for a server that has been waited for already.
        self._driver.close()
        try:
            # It is away, and says so.
            with suppress(psycopg.Error):
                self._leave_pipeline()
        finally:
            super().discard()

    def _in_pipeline(self) -> psycopg.Pipeline:
        if self._pipeline is None:
            self._pipeline = self._entered.enter_context(self._driver.pipeline())
        return self._pipeline

    def _leave_pipeline(self) -> None:
        self._pipeline = None
        self._entered.close()


def _head(row: Sequence[Any], server: Microseconds) -> Head:
    version, number, digest, *moment = row
    return Head(version, number, digest, Moment(*moment), server)


def _text(statement: ClauseElement, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
