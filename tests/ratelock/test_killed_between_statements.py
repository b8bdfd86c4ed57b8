"""The power is cut between any two statements of a transaction: it has happened whole, or not at all."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, event, func, make_url, select

from jfe_cni.databases.engines import reader, writer
from jfe_cni.databases.upgrade import upgrade
from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.store import Store
from jfe_cni.ratelock.stores import open_store, schema
from jfe_cni.ratelock.stores.sql import SqlStore
from jfe_cni.ratelock.stores.tables import TABLES
from tests.ratelock.conftest import SQL_STORES
from tests.ratelock.deeds import DEEDS, add, remove
from tests.ratelock.hands import Hands

# More than the longest of what is tried has.
MOST_STATEMENTS = 40

_fork = multiprocessing.get_context("fork")


@pytest.fixture(params=SQL_STORES)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def dying(url: URL, at: int) -> Engine:
    """This process ends where the statement of that number would begin."""
    engine = writer(url)
    left = at

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, *words: Any, **options: Any) -> Any:
            count()
            return super().execute(*words, **options)

        def executemany(self, *words: Any, **options: Any) -> Any:
            count()
            return super().executemany(*words, **options)

    def watch(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(count)
        else:
            connection.cursor_factory = Cursor

    event.listen(engine, "connect", watch)
    return engine


@pytest.mark.parametrize("deed", DEEDS)
def test_whole_or_not_at_all(url: str, deed: Callable[[Store], Any]) -> None:
    upgrade(writer(make_url(url)), TABLES)
    if deed is remove:
        assert _exit_code(url, add, writer) == 0
    ends = []
    for at in range(1, MOST_STATEMENTS):
        before = _state(url)
        ends.append(_exit_code(url, deed, partial(dying, at=at)))
        after = _state(url)
        if ends[-1] == 0:
            assert after != before
            break
        assert ends[-1] == -signal.SIGKILL
        assert after == before
    assert ends[-1] == 0
    assert len(ends) > 4, "it was cut off in several places"


def _exit_code(url: str, deed: Callable[[Store], Any], engine: Callable[[URL], Engine]) -> int | None:
    process = _fork.Process(target=lambda: asyncio.run(_do(url, deed, engine(make_url(url)))))
    process.start()
    process.join()
    return process.exitcode


async def _do(url: str, deed: Callable[[Store], Any], engine: Engine) -> None:
    # Not started: nothing but the deed runs.
    store = SqlStore(engine, reader(make_url(url)), Hands().clock())
    await deed(store)
    # Not closed: what is done is durable when it is answered.
    os._exit(0)


def _state(url: str) -> object:
    """All tables, and the log as it verifies; but for the version and the time, which open stores write."""
    engine = reader(make_url(url))
    with engine.connect() as connection:
        rows = {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in schema.metadata.sorted_tables
            if table is not schema.head
        }
        head = connection.execute(select(schema.head.c.number, schema.head.c.hash)).one()
        last = connection.execute(select(func.max(schema.log.c.number))).scalar_one() or 0
    engine.dispose()
    assert head.number == last
    assert asyncio.run(_verified(url)) == (head.number, head.hash)
    return rows


async def _verified(url: str) -> tuple[int, bytes]:
    store = await open_store(url, Hands().clock())
    verdict = await verify(store.entries())
    await store.close()
    assert verdict.broken is None
    return verdict.head.number, verdict.head.hash
