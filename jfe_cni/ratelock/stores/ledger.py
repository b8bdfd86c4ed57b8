"""One transaction after another on the log's head, which all replicas share: who holds it knows the time and may write.

It is committed, or it is provably not and done again. A connection that is lost while COMMIT is under way leaves that
open; the next transaction waits until the database has made up its mind (the head's lock), and then finds the entry
that it would have written in the log, by number and hash, or does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import BigInteger, ClauseElement, Connection, Engine, cast, func, insert, literal, select, update

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.log import chained
from jfe_cni.ratelock.store import LogEntry, OwnerAct
from jfe_cni.ratelock.stores import schema
from jfe_cni.ratelock.stores.clock import Clock, Moment
from jfe_cni.ratelock.stores.faults import DATABASE_ERRORS, may_pass, store_error
from jfe_cni.ratelock.stores.statements import Statements, Values

Answer = TypeVar("Answer")

# Seconds before each further try. A database that is away for longer is said to be.
_PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)

_SERVER_TIME = {
    "postgresql": cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger),
    "sqlite": literal(0),
}

_INSERT_LOG = insert(schema.log)
_UPDATE_HEAD = update(schema.head).where(schema.head.c.id == 1)


@dataclass(frozen=True)
class _Doubt(Generic[Answer]):
    """A COMMIT that was sent and not heard of: the last entry that it would have left in the log, and the answer."""

    number: int
    hash: bytes
    answer: Answer


class Transaction:
    """What is appended and written is sent together, at its end. Reads see what was there before."""

    def __init__(self, connection: Connection, version: int, number: int, digest: bytes, moment: Moment) -> None:
        self.connection = connection
        self.version = version
        self.number = number
        self.hash = digest
        self.moment = moment
        self._entries: list[LogEntry] = []
        self._writes: list[tuple[ClauseElement, Sequence[Values]]] = []

    @property
    def now(self) -> Microseconds:
        return self.moment.at

    @property
    def writes(self) -> bool:
        return bool(self._entries or self._writes)

    @property
    def logs(self) -> bool:
        return bool(self._entries)

    def append(self, act: OwnerAct) -> LogEntry:
        entry = chained(self.hash, self.number + 1, self.now, act)
        self.number, self.hash = entry.number, entry.hash
        self._entries.append(entry)
        return entry

    def write(self, statement: ClauseElement, rows: Sequence[Values]) -> None:
        """The statement, which lives as long as the program, once for each row of its parameters."""
        if rows:
            self._writes.append((statement, rows))

    def send(self, statements: Statements) -> None:
        for statement, rows in self._writes:
            statements.run(self.connection, statement, rows)
        if self._entries:
            statements.run(self.connection, _INSERT_LOG, [vars(entry) for entry in self._entries])
        head = {"version": self.version + 1, "number": self.number, "hash": self.hash, **vars(self.moment)}
        statements.run(self.connection, _UPDATE_HEAD, [head])


class Ledger:
    """For one thread at a time. `engine`: its BEGIN takes SQLite's write lock. `moment`, `version`: as the last
    transaction left them; `version` -1 where that is not known."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._statements = Statements(engine.dialect)
        self.select_head = select(
            schema.head.c.version,
            schema.head.c.number,
            schema.head.c.hash,
            schema.head.c.at,
            schema.head.c.boot_id,
            schema.head.c.boottime,
            schema.head.c.wall,
            _SERVER_TIME[engine.dialect.name].label("server"),
        )
        self._lock_head = self.select_head.with_for_update()
        self._connection: Connection | None = None
        self.moment = Moment(0)
        self.version = -1

    def transact(self, work: Callable[[Transaction], Answer]) -> Answer:
        """What `work` returns, when it is durable. What it raises has undone everything. Raises StoreError."""
        doubt: _Doubt[Answer] | None = None
        for pause in _PAUSES:
            if pause:
                time.sleep(pause)
            try:
                connection = self._connected()
                with connection.begin() as begun:
                    transaction = self._locked(connection)
                    if doubt is not None and _is_in_log(connection, doubt):
                        self.version = -1
                        return doubt.answer
                    doubt = None
                    answer = work(transaction)
                    self.version = transaction.version
                    if transaction.writes or transaction.moment.boot_id != self.moment.boot_id:
                        self.version += 1
                        doubt = _Doubt(transaction.number, transaction.hash, answer) if transaction.logs else None
                        with _pipeline(connection):
                            transaction.send(self._statements)
                            begun.commit()
                    self.moment = transaction.moment
                    return answer
            except DATABASE_ERRORS as error:
                self._disconnect()
                if not may_pass(error):
                    raise store_error(error) from error
                failure = error
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
        row = self._statements.run(connection, self._lock_head, [{}]).fetchone()
        assert row is not None
        version, number, digest, at, boot_id, boottime, wall, server = row
        moment = self._clock.moment(Moment(at, boot_id, boottime, wall), server)
        return Transaction(connection, version, number, digest, moment)


def _is_in_log(connection: Connection, doubt: _Doubt[Answer]) -> bool:
    hashes = select(schema.log.c.hash).where(schema.log.c.number == doubt.number)
    return connection.execute(hashes).scalar_one_or_none() == doubt.hash


def _pipeline(connection: Connection) -> AbstractContextManager[object]:
    """One round trip for all that is sent and its COMMIT (psycopg's pipeline mode)."""
    pipeline = getattr(connection.connection.driver_connection, "pipeline", None)
    return nullcontext() if pipeline is None else pipeline()
