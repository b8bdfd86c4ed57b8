"""The plain counting transaction that `ratelock bench` measures by: one durable `UPDATE … SET n = n + 1` each, on a
database of the same kind; nothing else is as little and still counts."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import psycopg

_COUNT = "UPDATE ratelock_bench_plain SET n = n + 1 WHERE id = 1"
_MAKE = "CREATE TABLE ratelock_bench_plain (id INTEGER PRIMARY KEY, n BIGINT NOT NULL)"
_FIRST = "INSERT INTO ratelock_bench_plain VALUES (1, 0)"


class PlainCount(Protocol):
    async def count(self, caller: int) -> None:
        """Durable when it returns."""
        ...

    async def close(self) -> None: ...


class SqliteCount:
    """By one thread for all callers: one at a time may write."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _MAKE, _FIRST):
            self._database.execute(statement)

    async def count(self, caller: int) -> None:
        del caller
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.execute, _COUNT)

    async def close(self) -> None:
        self._thread.shutdown()
        self._database.close()


class PostgresqlCount:
    """On a connection for each caller; its table is removed afterwards."""

    def __init__(self, connections: list[psycopg.AsyncConnection]) -> None:
        self._connections = connections

    @classmethod
    async def connect(cls, url: str, callers: int) -> PostgresqlCount:
        connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(callers)]
        await connections[0].execute("DROP TABLE IF EXISTS ratelock_bench_plain")
        await connections[0].execute(_MAKE)
        await connections[0].execute(_FIRST)
        return cls(connections)

    async def count(self, caller: int) -> None:
        await self._connections[caller].execute(_COUNT)

    async def close(self) -> None:
        await self._connections[0].execute("DROP TABLE ratelock_bench_plain")
        for connection in self._connections:
            await connection.close()
