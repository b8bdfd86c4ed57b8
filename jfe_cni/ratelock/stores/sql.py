"""The store in a SQL database: SQLite, embedded, or PostgreSQL, which several replicas share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, Row, literal, select

from jfe_cni.databases.commits import GroupCommit
from jfe_cni.databases.engines import READERS
from jfe_cni.databases.faults import DATABASE_ERRORS, store_error
from jfe_cni.errors import JfeError
from jfe_cni.ratelock.budget_changes import settled
from jfe_cni.ratelock.budgets import Budget, Meter, Microseconds
from jfe_cni.ratelock.store import (
    Attempt,
    LogEntry,
    OwnerAct,
    StoredBudget,
    StoredSecret,
    StoredToken,
    Verdict,
)
from jfe_cni.ratelock.stores import changes, guesses, keys, schema, sessions
from jfe_cni.ratelock.stores.attempts import admit
from jfe_cni.ratelock.stores.clock import Clock, Moment
from jfe_cni.ratelock.stores.histories import Histories
from jfe_cni.ratelock.stores.ledger import Ledger, Transaction
from jfe_cni.ratelock.stores.refusals import TOGETHER, log_counted
from jfe_cni.ratelock.stores.rows import log_entry, stored_budget, stored_secret, stored_token
from jfe_cni.ratelock.stores.secrets import Secrets

Answer = TypeVar("Answer")

_PAGE = 1_000
# Seconds between two looks for what is out of use.
_UPKEEP = 60.0


class SqlStore:
    """See `store.Store`. For one event loop; what touches the database runs in threads of its own."""

    def __init__(self, writer: Engine, reader: Engine, clock: Clock) -> None:
        """The tables are there already. `writer`, `reader`: of `engines.py`, on the same database."""
        self._ledger = Ledger(writer, clock)
        self._clock = clock
        self._histories = Histories()
        self._secrets = Secrets()
        self._commits = GroupCommit(self._admit)
        self._reader = reader
        server = sessions.SERVER_TIME if reader.dialect.name == "postgresql" else literal(0)
        self._select_time = select(schema.head, server.label("server"))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ratelock-reads")
        self._upkeep: asyncio.Task[None] | None = None
        self._latest: Microseconds = 0

    async def start(self) -> None:
        """Takes note of the time, before anything else is asked. Raises StoreError."""
        await self.ready()
        self._upkeep = asyncio.create_task(self._keep_up())

    async def close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep
        await self._commits.close()
        await asyncio.to_thread(self._readers.shutdown)
        self._ledger.close()
        self._reader.dispose()

    async def now(self) -> Microseconds:
        row = (await self._read(self._select_time))[0]
        # What was only read is not in the database, and its server's clock may be set back.
        last = Moment(row.at, row.boot_id, row.boottime, row.wall)
        self._latest = max(self._latest, self._clock.moment(last, row.server).at)
        return self._latest

    async def ready(self) -> None:
        await self._alone(lambda transaction: transaction.advance())

    async def admit(self, attempt: Attempt) -> Verdict:
        return await self._commits.submit(attempt)

    def _admit(self, attempts: Sequence[Attempt]) -> Sequence[Verdict]:
        verdicts = self._ledger.transact(
            lambda transaction: admit(transaction, attempts, self._histories, self._secrets)
        )
        self._histories.keep(self._ledger.version)
        self._secrets.keep(self._ledger.version)
        return verdicts

    async def secret(self, name: str) -> StoredSecret | None:
        rows = await self._read(select(schema.secrets).where(schema.secrets.c.name == name))
        return stored_secret(rows[0]) if rows else None

    async def secrets(self) -> Sequence[StoredSecret]:
        return [stored_secret(row) for row in await self._read(select(schema.secrets).order_by(schema.secrets.c.name))]

    async def put_secret(self, secret: StoredSecret, act: OwnerAct, *, expected_version: int | None) -> None:
        await self._alone(lambda transaction: changes.put_secret(transaction, secret, act, expected_version))

    async def reseal(self, name: str, sealed: bytes, *, expected_version: int, changed: int) -> bool:
        return await self._alone(
            lambda transaction: changes.reseal(transaction, name, sealed, expected_version, changed)
        )

    async def remove_secret(self, name: str, act: OwnerAct) -> bool:
        return await self._alone(lambda transaction: changes.remove_secret(transaction, name, act))

    async def budget(self, meter: Meter) -> StoredBudget | None:
        table = schema.meters
        rows = await self._read(select(table).where(table.c.kind == meter.kind, table.c.name == meter.name))
        return settled(stored_budget(rows[0]), await self.now()) if rows else None

    async def budgets(self) -> Sequence[StoredBudget]:
        table = schema.meters
        set_ones = select(table).where(table.c.budget.is_not(None)).order_by(table.c.kind, table.c.name)
        rows, now = await self._read(set_ones), await self.now()
        return [current for row in rows if (current := settled(stored_budget(row), now)) is not None]

    async def set_budget(self, meter: Meter, budget: Budget | None, act: OwnerAct) -> StoredBudget | None:
        def change(transaction: Transaction) -> StoredBudget | None:
            return changes.set_budget(transaction, self._histories, meter, budget, act)

        return await self._alone(change)

    async def token(self, digest: bytes) -> StoredToken | None:
        rows = await self._read(select(schema.tokens).where(schema.tokens.c.digest == digest))
        return stored_token(rows[0]) if rows else None

    async def put_token(self, token: StoredToken, act: OwnerAct) -> None:
        await self._alone(lambda transaction: changes.put_token(transaction, token, act))

    async def remove_token(self, digest: bytes, act: OwnerAct) -> bool:
        return await self._alone(lambda transaction: changes.remove_token(transaction, digest, act))

    async def append(self, act: OwnerAct) -> LogEntry:
        return await self._alone(lambda transaction: transaction.append(act))

    async def entries(self, first: int = 1) -> AsyncIterator[LogEntry]:
        """A page at a time; an entry is never changed, so the pages need no transaction in common."""
        number = schema.log.c.number
        page = select(schema.log).order_by(number).limit(_PAGE)
        while rows := await self._read(page.where(number >= first)):
            for row in rows:
                yield log_entry(row)
            first = rows[-1].number + 1

    async def _alone(self, work: Callable[[Transaction], Answer]) -> Answer:
        return await self._commits.alone(lambda: self._ledger.transact(work))

    async def _read(self, statement: Executable) -> Sequence[Row[Any]]:
        def read() -> Sequence[Row[Any]]:
            try:
                with self._reader.connect() as connection:
                    return connection.execute(statement).all()
            except DATABASE_ERRORS as error:
                raise store_error(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        due, after = loop.time(), 0
        while True:
            # A store that is away, or refuses, is told to those who ask it for something; here it is asked again.
            with contextlib.suppress(JfeError):
                await self._alone(log_counted)
                if loop.time() >= due:
                    while await self._alone(keys.forget):
                        pass
                    after = await self._alone(partial(guesses.forget, after=after))
                    due = loop.time() + (0 if after else _UPKEEP)
            await asyncio.sleep(TOGETHER / 1e6)
