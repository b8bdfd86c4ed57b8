"""One transaction after another on the log's head, which all replicas share: whoever holds it knows the time and may write.

It is committed, or it is provably not and done again. A connection that is lost while COMMIT is under way leaves that
open; the next transaction waits until the database has made up its mind (the head's lock), and then finds the entry
that it would have written in the log, by number and hash, or does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import BigInteger, Connection, Engine, Executable, cast, func, insert, literal, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.faults import StoreError
from jfe_cni.ratelock.log import chained
from jfe_cni.ratelock.store import LogEntry, OwnerAct
from jfe_cni.ratelock.stores import schema
from jfe_cni.ratelock.stores.clock import Clock, Moment

Answer = TypeVar("Answer")
Row = dict[str, Any]

# Seconds before each further try. A database that is away for longer is said to be.
_PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)

_SERVER_TIME = {
    "postgresql": cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger),
    "sqlite": literal(0),
}

_INSERT_LOG = insert(schema.log)
_UPDATE_HEAD = update(schema.head).where(schema.head.c.id == 1)


def store_error(error: DBAPIError) -> StoreError:
    """The database's own words, without the statement and its values."""
    words = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return StoreError(f"the store has failed: {words[0]}", remedy="see that its database runs and can be reached")


class Transaction:
    """What is appended and written is sent together, at its end. Reads see what was there before."""

    def __init__(self, connection: Connection, version: int, number: int, digest: bytes, moment: Moment) -> None:
        self.connection = connection
        self.version = version
        self.number = number
        self.hash = digest
        self.moment = moment
        self._entries: list[LogEntry] = []
        self._writes: list[tuple[Executable, Sequence[Row]]] = []

    @property
    def now(self) -> Microseconds:
        return self.moment.at

    @property
    def writes(self) -> bool:
        return bool(self._entries or self._writes)

    @property
    def last_entry(self) -> tuple[int, bytes] | None:
        return (self.number, self.hash) if self._entries else None

    def append(self, act: OwnerAct) -> LogEntry:
        entry = chained(self.hash, self.number + 1, self.now, act)
        self.number, self.hash = entry.number, entry.hash
        self._entries.append(entry)
        return entry

    def write(self, statement: Executable, rows: Sequence[Row]) -> None:
        """The statement once for each row of its parameters."""
        if rows:
            self._writes.append((statement, rows))

    def send(self) -> None:
        for statement, rows in self._writes:
            self.connection.execute(statement, rows)
        if self._entries:
            self.connection.execute(_INSERT_LOG, [vars(entry) for entry in self._entries])
        head = {"version": self.version + 1, "number": self.number, "hash": self.hash, **vars(self.moment)}
        self.connection.execute(_UPDATE_HEAD, head)


class Ledger:
    """For one thread at a time. `engine`: its BEGIN takes SQLite's write lock. `moment`, `version`: as the last
    transaction left them; `version` -1 where that is not known."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.select_head = select(schema.head, _SERVER_TIME[engine.dialect.name].label("server"))
        self._lock_head = self.select_head.with_for_update()
        self._connection: Connection | None = None
        self.moment = Moment(0)
        self.version = -1

    def transact(self, work: Callable[[Transaction], Answer]) -> Answer:
        """What `work` returns, when it is durable. What it raises has undone everything. Raises StoreError."""
        doubt: tuple[tuple[int, bytes], Answer] | None = None
        for pause in _PAUSES:
            time.sleep(pause)
            try:
                connection = self._connected()
                with connection.begin() as begun:
                    transaction = self._locked(connection)
                    if doubt is not None and _is_in_log(connection, doubt[0]):
                        self.version = -1
                        return doubt[1]
                    doubt = None
                    answer = work(transaction)
                    self.version = transaction.version
                    if transaction.writes or transaction.moment.boot_id != self.moment.boot_id:
                        self.version += 1
                        if transaction.last_entry is not None:
                            doubt = transaction.last_entry, answer
                        with _pipeline(connection):
                            transaction.send()
                            begun.commit()
                    self.moment = transaction.moment
                    return answer
            except (OperationalError, InterfaceError) as error:
                self._disconnect()
                failure = error
            except DBAPIError as error:
                self._disconnect()
                raise store_error(error) from error
        raise store_error(failure) from failure

    def close(self) -> None:
        self._disconnect()
        self._engine.dispose()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # What failed once is not used again: its transaction may be in any state.
            connection.invalidate()
            connection.close()

    def _locked(self, connection: Connection) -> Transaction:
        row = connection.execute(self._lock_head).one()
        moment = self._clock.moment(last_moment(row), row.server)
        return Transaction(connection, row.version, row.number, row.hash, moment)


def last_moment(head: sqlalchemy.Row[Any]) -> Moment:
    return Moment(head.at, head.boot_id, head.boottime, head.wall)


def _is_in_log(connection: Connection, entry: tuple[int, bytes]) -> bool:
    number, digest = entry
    found = connection.execute(select(schema.log.c.hash).where(schema.log.c.number == number)).scalar_one_or_none()
    return found == digest


def _pipeline(connection: Connection) -> AbstractContextManager[object]:
    """One round trip for all that is sent and its COMMIT (psycopg's pipeline mode)."""
    driver = connection.connection.driver_connection
    pipeline = getattr(driver, "pipeline", None)
    return nullcontext() if pipeline is None else pipeline()
