"""One transaction after another on the log's head, which all replicas share: who holds it knows the time and may write.

It is committed, or it is provably not and done again. A connection that is lost while COMMIT is under way leaves that
open; the next transaction waits until the database has made up its mind (the head's lock), and then finds the entry
that it would have written in the log, by number and hash, or does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ClauseElement, Connection, Engine, select

from jfe_cni.databases.faults import DATABASE_ERRORS, may_pass, store_error
from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.log import chained
from jfe_cni.ratelock.store import LogEntry, OwnerAct
from jfe_cni.ratelock.stores import schema
from jfe_cni.ratelock.stores.clock import Clock, Moment
from jfe_cni.ratelock.stores.sessions import Head, Session, session
from jfe_cni.ratelock.stores.statements import Values
from jfe_cni.ratelock.stores.written import Written

Answer = TypeVar("Answer")

# Seconds before each further try. A database that is away for longer is said to be.
_PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)
# Seconds after which there is no further try: each takes long where the database does not answer.
_PATIENCE = 20.0


@dataclass(frozen=True)
class _Doubt(Generic[Answer]):
    """A COMMIT that was sent and not heard of: the last entry that it would have left in the log, and the answer."""

    number: int
    hash: bytes
    answer: Answer


class Transaction:
    """What is counted, appended and written is sent together, at its end. Reads see what was there before."""

    def __init__(self, session: Session, head: Head, moment: Moment) -> None:
        self._session = session
        self.version = head.version
        self.number = head.number
        self.hash = head.hash
        self.moment = moment
        self._counts: list[Values] = []
        self._entries: list[LogEntry] = []
        self._others: list[tuple[ClauseElement, Sequence[Values]]] = []
        self._advances = False

    @property
    def connection(self) -> Connection:
        return self._session.connection

    @property
    def now(self) -> Microseconds:
        return self.moment.at

    @property
    def writes(self) -> bool:
        return bool(self._advances or self._entries or self._counts or self._others)

    @property
    def logs(self) -> bool:
        return bool(self._entries)

    def read(self, statement: ClauseElement, values: Values) -> Sequence[Sequence[Any]]:
        """Rows as the driver has them, of a statement that lives as long as the program. On PostgreSQL it is less than
        half of what `connection` takes."""
        return self._session.read(statement, values)

    def append(self, act: OwnerAct) -> LogEntry:
        entry = chained(self.hash, self.number + 1, self.now, act)
        self.number, self.hash = entry.number, entry.hash
        self._entries.append(entry)
        return entry

    def advance(self) -> None:
        """The head is written, if nothing else is."""
        self._advances = True

    def count(self, meter: int, number: int, at: Microseconds) -> None:
        """One more attempt, the meter's `number`-th."""
        self._counts.append({"meter": meter, "number": number, "at": at})

    def write(self, statement: ClauseElement, rows: Sequence[Values]) -> None:
        """The statement, which lives as long as the program, once for each row of its parameters."""
        if rows:
            self._others.append((statement, rows))

    def written(self) -> Written:
        head = {"version": self.version + 1, "number": self.number, "hash": self.hash, **vars(self.moment)}
        return Written(self._counts, self._entries, self._others, head)


class Ledger:
    """For one thread at a time. `engine`: of `engines.writer`. `moment`, `version`: as the last transaction left them;
    `version` -1 where that is not known."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._session: Session | None = None
        self.moment = Moment(0)
        self.version = -1

    def transact(self, work: Callable[[Transaction], Answer]) -> Answer:
        """What `work` returns, when it is durable. What it raises has undone everything. Raises StoreError."""
        doubt: _Doubt[Answer] | None = None
        until = time.monotonic() + _PATIENCE
        for pause in _PAUSES:
            if pause:
                time.sleep(pause)
            try:
                session = self._connected()
                transaction = self._begun(session)
                if doubt is not None and _is_in_log(session.connection, doubt):
                    self.version = -1
                    return doubt.answer
                doubt = None
                answer = work(transaction)
                self.version = transaction.version
                if transaction.writes or transaction.moment.boot_id != self.moment.boot_id:
                    self.version += 1
                    doubt = _Doubt(transaction.number, transaction.hash, answer) if transaction.logs else None
                    session.commit(transaction.written())
                self.moment = transaction.moment
                return answer
            except DATABASE_ERRORS as error:
                self._disconnect()
                if not may_pass(error) or time.monotonic() > until:
                    raise store_error(error) from error
                failure = error
            finally:
                self._end()
        raise store_error(failure) from failure

    def close(self) -> None:
        self._disconnect()
        self._engine.dispose()

    def _connected(self) -> Session:
        if self._session is None:
            self._session = session(self._engine)
        return self._session

    def _end(self) -> None:
        if self._session is None:
            return
        try:
            self._session.end()
        except DATABASE_ERRORS:
            # Without its connection the database undoes it by itself.
            self._disconnect()

    def _disconnect(self) -> None:
        former, self._session = self._session, None
        if former is not None:
            former.discard()

    def _begun(self, session: Session) -> Transaction:
        head = session.begin()
        return Transaction(session, head, self._clock.moment(head.moment, head.server))


def _is_in_log(connection: Connection, doubt: _Doubt[Answer]) -> bool:
    hashes = select(schema.log.c.hash).where(schema.log.c.number == doubt.number)
    return connection.execute(hashes).scalar_one_or_none() == doubt.hash
