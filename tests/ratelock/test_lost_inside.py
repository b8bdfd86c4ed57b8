"""A database that is lost, or stands still, inside a transaction: nothing more is let through, nothing is forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, literal, make_url, select

from jfe_cni.databases.engines import reader, writer
from jfe_cni.databases.upgrade import upgrade
from jfe_cni.errors import StoreError
from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.store import Admitted, OwnerAct, Spent, StoredSecret
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.stores.sessions import PostgresqlSession, session
from jfe_cni.ratelock.stores.sql import SqlStore
from jfe_cni.ratelock.stores.tables import TABLES
from jfe_cni.ratelock.stores.written import Written
from tests.ratelock.attempts import OWNER, admitted, attempt, budget
from tests.ratelock.conftest import SQL_STORES
from tests.ratelock.hands import Hands
from tests.ratelock.standing_still import standing_still
from tests.stage.deadline import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=SQL_STORES)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def lose_reads_of(engine: Engine, table: str) -> Callable[[], int]:
    """The next read of the table fails, as where the connection breaks. How many there were."""
    lost = 0

    def lose(connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        nonlocal lost
        if lost or f"FROM {table}" not in statement:
            return
        lost += 1
        driver = connection.connection.driver_connection
        raise (sqlite3 if isinstance(driver, sqlite3.Connection) else psycopg).OperationalError("connection lost")

    event.listen(engine, "before_cursor_execute", lose)
    return lambda: lost


async def test_a_budget_holds_where_the_read_of_it_was_lost(url: str) -> None:
    engine = writer(make_url(url))
    upgrade(engine, TABLES)
    other = await open_store(url, Hands().clock())
    await other.set_budget(Meter("caller", "bob"), budget((1, 1_000)), OWNER)
    assert isinstance(await other.admit(attempt("alice", "bob")), Admitted)
    await other.close()
    store = SqlStore(engine, reader(make_url(url)), Hands().clock())
    assert isinstance(await store.admit(attempt("dave", "carol")), Admitted), "something is remembered"
    lost = lose_reads_of(engine, "meters")
    for name in ("dave", "erin", "frank"):
        assert isinstance(await store.admit(attempt(name, "bob")), Spent)
    assert lost() == 1
    await store.close()


async def test_a_secret_is_there_where_the_read_of_it_was_lost(url: str) -> None:
    engine = writer(make_url(url))
    upgrade(engine, TABLES)
    other = await open_store(url, Hands().clock())
    await other.put_secret(
        StoredSecret("alice", "record", "", b"sealed", None, 1), OwnerAct("owner", "x", "x"), expected_version=None
    )
    await other.close()
    store = SqlStore(engine, reader(make_url(url)), Hands().clock())
    assert isinstance(await store.admit(attempt("dave", "carol")), Admitted), "something is remembered"
    lost = lose_reads_of(engine, "secrets")
    for _ in range(2):
        found = await store.admit(attempt("alice"))
        assert isinstance(found, Admitted)
        assert found.secret is not None
        assert found.secret.sealed == b"sealed"
    assert lost() == 1
    await store.close()


async def test_a_server_that_ends_the_session_before_what_is_written_counts_once(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes with the answers of a pipeline, from the server itself."""
    engine = writer(make_url(postgresql_url))
    upgrade(engine, TABLES)
    store = SqlStore(engine, reader(make_url(postgresql_url)), Hands().clock())
    await admitted(store, "carol", 1)
    commit, ended = PostgresqlSession.commit, 0

    def end_it(session: PostgresqlSession, written: Written) -> None:
        nonlocal ended
        monkeypatch.setattr(PostgresqlSession, "commit", commit)
        driver = session._driver
        with psycopg.connect(postgresql_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [driver.info.backend_pid])
        ended += 1
        commit(session, written)

    monkeypatch.setattr(PostgresqlSession, "commit", end_it)
    verdicts = await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(5)))
    assert [isinstance(verdict, Admitted) for verdict in verdicts] == [True, True, True, False, False]
    assert ended == 1
    assert [entry.event async for entry in store.entries()] == ["check"] * 4 + ["refused"]
    assert (await verify(store.entries())).broken is None
    await store.close()


async def test_a_replica_that_stands_still_in_a_transaction_is_not_waited_for_forever(postgresql_url: str) -> None:
    store = await open_store(postgresql_url)
    still = writer(make_url(postgresql_url))
    held = session(still)
    held.begin()
    # The server ends what is idle in a transaction.
    assert await asyncio.wait_for(admitted(store, "alice", 1), 40) == 1
    with pytest.raises(psycopg.Error) as ended:
        held.read(_ANYTHING, {})
    assert isinstance(ended.value, psycopg.errors.IdleInTransactionSessionTimeout | psycopg.OperationalError)
    held.discard()
    still.dispose()
    await store.close()


async def test_a_server_that_stands_still_is_given_up_and_so_is_the_stop_of_a_replica_that_waits_for_it(
    postgresql_url: str,
) -> None:
    """It takes what is sent, as its kernel does for it, and answers nothing."""
    hands = Hands()
    store, reading = await open_store(postgresql_url, hands.clock()), await open_store(postgresql_url)
    assert await admitted(store, "alice", 1) == 1
    with standing_still(postgresql_url):
        asked = asyncio.gather(store.admit(attempt("alice")), reading.secret("alice"), return_exceptions=True)
        await asyncio.sleep(0.1)
        closed = asyncio.gather(store.close(), reading.close())
        assert [type(answer) for answer in await asyncio.wait_for(asked, 60)] == [StoreError, StoreError]
        await asyncio.wait_for(closed, 60)
    store = await open_store(postgresql_url, hands.clock())
    assert await admitted(store, "alice", 9) <= 2, "what nobody was told of may be counted"
    await store.close()


async def test_who_stood_still_tries_again(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = writer(make_url(postgresql_url))
    upgrade(engine, TABLES)
    store = SqlStore(engine, reader(make_url(postgresql_url)), Hands().clock())
    await admitted(store, "carol", 1)
    commit = PostgresqlSession.commit

    def stand_still(session: PostgresqlSession, written: Written) -> None:
        monkeypatch.setattr(PostgresqlSession, "commit", commit)
        session._driver.execute("SET idle_in_transaction_session_timeout = '100ms'")
        session.read(_ANYTHING, {})
        _wait_until_ended(postgresql_url, session._driver.info.backend_pid)
        commit(session, written)

    monkeypatch.setattr(PostgresqlSession, "commit", stand_still)
    assert await admitted(store, "alice", 4) == 3
    await store.close()


async def test_nobody_is_answered_before_the_server_has_committed(postgresql_url: str) -> None:
    store = await open_store(postgresql_url)
    await admitted(store, "carol", 1)
    with psycopg.connect(postgresql_url) as other:
        # What is written after it waits for whoever has taken the next number of the log, until that one has decided.
        other.execute(
            "INSERT INTO log SELECT number + 1, at, actor, event, subject, detail, previous, hash FROM log"
            " ORDER BY number DESC LIMIT 1"
        )
        asked = asyncio.ensure_future(store.admit(attempt("alice")))
        done, _ = await asyncio.wait([asked], timeout=1)
        assert not done
        other.rollback()
    assert isinstance(await asked, Admitted)
    await store.close()


def test_commits_are_durable_whatever_the_database_s_default(sqlite_url: str, postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    for url, asked, expected in (
        # sqlite.org/pragma.html#pragma_synchronous: FULL
        (sqlite_url, "PRAGMA synchronous", 2),
        (sqlite_url, "PRAGMA journal_mode", "wal"),
        (postgresql_url, "SHOW synchronous_commit", "on"),
    ):
        engine = writer(make_url(url))
        with engine.connect() as connection:
            assert connection.exec_driver_sql(asked).scalar_one() == expected
        engine.dispose()


_ANYTHING = select(literal(1))


def _wait_until_ended(url: str, backend: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        lives = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: not other.execute(lives, [backend]).fetchone(), "the server has ended the session")
