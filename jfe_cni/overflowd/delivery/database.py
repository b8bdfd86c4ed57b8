"""The delivery's state in SQLite or PostgreSQL: what many ask for at once is one durable transaction."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import BigInteger, Connection, Engine, extract, func, select

from jfe_cni.databases.commits import GroupCommit
from jfe_cni.databases.engines import make_private, sql_url, writer
from jfe_cni.databases.faults import DATABASE_ERRORS, may_pass, store_error
from jfe_cni.databases.upgrade import upgrade_at
from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.delivery.tables import TABLES

Answer = TypeVar("Answer")
Work = Callable[[Connection], Any]

# Seconds before each further try. A database that is away for longer is said to be.
_PAUSES = (0.0, 0.1, 0.5, 1.0)

_SERVER_TIME = select(func.cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger))


class Database:
    """Made by `open_database`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commits: GroupCommit[Work, Any] = GroupCommit(self._transact)
        self._closing = threading.Event()

    async def run(self, work: Callable[[Connection], Answer]) -> Answer:
        """What `work` returns, when it is durable. It may be run again where nobody knows whether it was committed: it
        must stand that. Raises StoreError."""
        return cast(Answer, await self._commits.submit(work))

    async def close(self) -> None:
        """What waits is still committed, if the database takes it at once."""
        self._closing.set()
        await self._commits.close()
        await asyncio.to_thread(self._engine.dispose)

    def _transact(self, together: Sequence[Work]) -> Sequence[Any]:
        failure: Exception | None = None
        for pause in _PAUSES:
            # Who closes waits for no database that is away.
            if self._closing.wait(pause) and failure is not None:
                break
            try:
                with self._engine.begin() as connection:
                    return [work(connection) for work in together]
            except DATABASE_ERRORS as error:
                if not may_pass(error):
                    raise store_error(error) from error
                failure = error
        assert failure is not None
        raise store_error(failure) from failure


def now(connection: Connection) -> Microseconds:
    """Of the one clock that all collectors have in common: the server's, or this machine's."""
    if connection.dialect.name == "postgresql":
        return int(connection.execute(_SERVER_TIME).scalar_one())
    return time.time_ns() // 1_000


@contextlib.asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """`sqlite:///PATH` (four slashes for an absolute one) or `postgresql://USER:PASSWORD@HOST/DATABASE`. Raises
    RequestError: a URL of another kind, tables of a newer release; StoreError: it can't be reached."""
    parsed = sql_url(url, "the state")
    engine = writer(parsed)
    try:
        if parsed.get_backend_name() == "sqlite":
            make_private(Path(parsed.database or ""))
        await asyncio.to_thread(upgrade_at, parsed, TABLES)
    except OSError as error:
        engine.dispose()
        raise RequestError(
            f"{parsed.database} can't be opened: {error.strerror}", remedy="name a file in a folder of ours"
        ) from error
    except DATABASE_ERRORS as error:
        engine.dispose()
        raise store_error(error) from error
    database = Database(engine)
    try:
        yield database
    finally:
        await database.close()
