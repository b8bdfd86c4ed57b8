"""What concerns the SQL stores alone: their tables and migrations, lost connections, what they forget."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, Table, Text, func, make_url, select, text, update

from jfe_cni.databases.engines import reader, writer
from jfe_cni.databases.upgrade import upgrade
from jfe_cni.errors import RequestError, StoreError
from jfe_cni.ratelock.assembly import opened
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.settings import Settings
from jfe_cni.ratelock.store import Admitted, OwnerAct, Store, StoredSecret
from jfe_cni.ratelock.stores import keys, open_store, schema
from jfe_cni.ratelock.stores.history import LEAST_KEPT, PRUNED_TOGETHER
from jfe_cni.ratelock.stores.sessions import SERVER_TIME, PostgresqlSession, Session, SqliteSession, session
from jfe_cni.ratelock.stores.sql import SqlStore
from jfe_cni.ratelock.stores.tables import TABLES
from jfe_cni.ratelock.stores.written import Written
from tests.ratelock.attempts import OWNER, admitted, attempt, budget, eventually, secret
from tests.ratelock.conftest import SQL_STORES
from tests.ratelock.hands import Hands
from tests.stage import deadline

pytestmark = pytest.mark.timeout(120)

VERSIONS = Table("alembic_version", MetaData(), Column("version_num", Text))


@pytest.fixture(params=SQL_STORES)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def begin_and_end(url: str) -> int:
    """The server's time, as the transaction has it."""
    engine = writer(make_url(url))
    opened = session(engine)
    time_of_server = opened.begin().server
    opened.end()
    opened.discard()
    engine.dispose()
    return time_of_server


def wait_until_somebody_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
        deadline.eventually(lambda: other.execute(waits).fetchone(), "somebody waits for a lock")


def count(url: str, table: Table) -> int:
    engine = reader(make_url(url))
    with engine.connect() as connection:
        found: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
    engine.dispose()
    return found


def test_the_migrations_make_the_tables_that_the_code_knows(url: str) -> None:
    engine = writer(make_url(url))
    upgrade(engine, TABLES)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == TABLES.newest
        assert compare_metadata(context, schema.metadata) == []


async def test_replicas_that_start_together_on_an_empty_database_agree(url: str) -> None:
    stores = await asyncio.gather(*(open_store(url) for _ in range(4)))
    assert sum([await admitted(store, "alice", 2) for store in stores]) == 3
    for store in stores:
        await store.close()


async def test_what_the_former_releases_tables_hold_is_kept_and_goes_on(url: str) -> None:
    kept, act = StoredSecret("alice", "record", "", b"sealed", None, 1), OwnerAct("owner", "secret.add", "alice")
    store = await open_store(url, Hands().clock())
    await store.put_secret(kept, act, expected_version=None)
    first = await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    await store.close()
    engine = writer(make_url(url))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE secrets DROP COLUMN changed"))
        connection.execute(update(VERSIONS).values(version_num="0001"))
    engine.dispose()
    store = await open_store(url, Hands().clock())
    assert await store.secret("alice") == kept
    assert isinstance(first, Admitted)
    assert await store.admit(attempt("alice", "bob", "key-1", b"digest")) == Admitted(first.number, repeated=True)
    await store.put_secret(replace(kept, version=2), act, expected_version=1)
    assert await admitted(store, "alice", 3) == 2
    assert (await verify(store.entries())).broken is None
    await store.close()


@pytest.mark.parametrize("trusted", [0, 60, 86_400])
async def test_a_wall_clock_of_another_boot_is_trusted_as_far_as_the_setting_says(tmp_path: Path, trusted: int) -> None:
    """An hour ago, in another boot."""
    settings = Settings(store=f"sqlite:///{tmp_path}/store.db", key=f"file:{tmp_path}/key", trusted_absence=trusted)
    async with opened(settings):
        pass
    before = time.time_ns() // 1000 - 3_600_000_000
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("UPDATE head SET boot_id = 'another', boottime = 1, wall = ?, at = ?", [before, before])
    async with opened(settings) as assembled:
        passed = (await assembled.store.now() - before) / 1e6
    assert min(trusted, 3_600) <= passed < min(trusted, 3_600) + 30


async def test_tables_of_a_newer_release_are_refused_and_left_alone(url: str) -> None:
    engine = writer(make_url(url))
    upgrade(engine, TABLES)
    with engine.begin() as connection:
        connection.execute(update(VERSIONS).values(version_num="9999"))
    with pytest.raises(RequestError, match="newer release"):
        await open_store(url)
    with engine.connect() as connection:
        assert connection.execute(select(VERSIONS.c.version_num)).scalar_one() == "9999"


@pytest.mark.parametrize("url_of_none", ["sqlite://", "sqlite:///:memory:", "mysql://root:hunter2@db/x", "", "///"])
async def test_another_url_is_refused_and_its_password_not_told(url_of_none: str) -> None:
    with pytest.raises(RequestError) as refused:
        await open_store(url_of_none)
    assert "hunter2" not in str(refused.value)


async def test_a_database_that_cannot_be_reached_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as failed:
        await open_store(f"postgresql://bob:hunter2@/x?host={tmp_path}")
    assert "hunter2" not in str(failed.value)
    with pytest.raises(RequestError, match="can't be opened"):
        await open_store(f"sqlite:///{tmp_path}/missing/ratelock.db")


async def test_an_embedded_database_is_its_owners_alone(sqlite_url: str, tmp_path: Path) -> None:
    store = await open_store(sqlite_url)
    await admitted(store, "alice", 1)
    files = list(tmp_path.glob("ratelock.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    await store.close()


Commit = Callable[[Session, Written], None]
Loss = Callable[[Commit, Session, Written], None]


def committed_but_not_heard_of(commit: Commit, session: Session, written: Written) -> None:
    commit(session, written)


def lost_before_the_commit(commit: Commit, session: Session, written: Written) -> None:
    del commit, session, written


def session_type(url: str) -> type[Session]:
    return SqliteSession if url.startswith("sqlite:") else PostgresqlSession


def lose_once(
    patch: pytest.MonkeyPatch, kind: type[Session], before: Callable[[Commit, Session, Written], None]
) -> None:
    """The connection is lost: for the next COMMIT alone."""
    commit = kind.commit

    def lost(session: Session, written: Written) -> None:
        patch.setattr(kind, "commit", commit)
        before(commit, session, written)
        driver = session.connection.connection.driver_connection
        assert driver is not None
        driver.close()
        words = "server closed the connection unexpectedly"
        raise (sqlite3 if isinstance(driver, sqlite3.Connection) else psycopg).OperationalError(words)

    patch.setattr(kind, "commit", lost)


@pytest.mark.parametrize("lose", [committed_but_not_heard_of, lost_before_the_commit])
async def test_a_connection_lost_around_the_commit_counts_once(
    url: str, lose: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = writer(make_url(url))
    upgrade(engine, TABLES)
    store = SqlStore(engine, reader(make_url(url)), Hands().clock())
    await admitted(store, "carol", 1)
    for name in ("alice", "dave"):
        lose_once(monkeypatch, session_type(url), lose)
        verdicts = await asyncio.gather(*(store.admit(attempt(name)) for _ in range(5)))
        assert [isinstance(verdict, Admitted) for verdict in verdicts] == [True, True, True, False, False]
        assert await admitted(store, name, 1) == 0
    assert [entry.event async for entry in store.entries()] == ["check", *["check", "check", "check", "refused"] * 2]
    assert (await verify(store.entries())).broken is None
    await store.close()


@pytest.fixture
async def rival(url: str) -> AsyncIterator[Store]:
    """Another replica."""
    opened = await open_store(url, Hands().clock())
    yield opened
    await opened.close()


async def test_a_commit_that_was_not_done_does_not_hide_what_another_replica_did(
    url: str, rival: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(writer(make_url(url)), reader(make_url(url)), Hands().clock())
    assert await admitted(store, "alice", 1) == 1

    def fail(session: Session, written: Written) -> None:
        raise sqlite3.DatabaseError("the disk is odd")

    with monkeypatch.context() as patch:
        patch.setattr(session_type(url), "commit", fail)
        with pytest.raises(StoreError):
            await store.admit(attempt("alice"))
    assert await admitted(rival, "alice", 1) == 1
    assert await admitted(store, "alice", 3) == 1
    await store.close()


async def test_a_server_that_ends_every_session_is_asked_again(postgresql_url: str) -> None:
    store = await open_store(postgresql_url)
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        for round_ in range(3):
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
            assert await admitted(store, f"alice-{round_}", 5) == 3
    assert await store.now()
    await store.close()


async def test_a_server_that_is_away_is_told_and_nobody_is_answered_until_it_is_back() -> None:
    with postgresql.server() as server:
        store = await open_store(server.database())
        await admitted(store, "alice", 2)
        server.stop(signal.SIGQUIT)
        verdicts = await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(4)), return_exceptions=True)
        assert all(isinstance(verdict, StoreError) for verdict in verdicts)
        with pytest.raises(StoreError):
            await store.secrets()
        server.start()
        assert await admitted(store, "alice", 4) == 1
        await store.close()


def test_the_time_is_read_when_the_head_is_held(postgresql_url: str) -> None:
    """Not when it was asked for: what is counted after a wait would leave its window early by as much."""
    engine = writer(make_url(postgresql_url))
    upgrade(engine, TABLES)
    with engine.connect() as other:
        other.execute(select(schema.head).with_for_update())
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(begin_and_end, postgresql_url)
            wait_until_somebody_waits(postgresql_url)
            released = other.execute(select(SERVER_TIME)).scalar_one()
            # Nothing was written: the row is the one that was read before the wait.
            other.rollback()
            assert waiting.result(timeout=20) > released


async def test_what_no_limit_can_ask_for_again_is_deleted(url: str) -> None:
    store = await open_store(url, Hands().clock())
    await store.set_budget(secret("alice"), budget((1_000_000, 10)), OWNER)
    for _ in range(12):
        await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(256)))
    assert count(url, schema.attempts) == 12 * 256
    await store.set_budget(secret("alice"), budget((5, 10)), OWNER)
    assert await admitted(store, "alice", 1) == 0
    await store.close()
    # They go while attempts are counted: with the next ones.
    hands = Hands()
    hands.go_on(11)
    store = await open_store(url, hands.clock())
    for _ in range(5):
        assert await admitted(store, "alice", 6) == 5
        hands.go_on(10)
    assert count(url, schema.attempts) <= LEAST_KEPT + PRUNED_TOGETHER
    await store.close()


async def test_names_that_are_guesses_are_forgotten_after_a_day_and_secrets_are_not(url: str) -> None:
    hands = Hands()
    store = await open_store(url, hands.clock())
    kept = StoredSecret("alice", "password", "", b"", None, 1)
    await store.put_secret(kept, OwnerAct("owner", "added", "alice"), expected_version=None)
    await store.set_budget(secret("carol"), budget((1, 1)), OWNER)
    for name in ("alice", "carol", *(f"guess-{n}" for n in range(600))):
        await store.admit(attempt(name))
    await store.close()
    assert count(url, schema.meters) == count(url, schema.attempts) == 602
    hands.go_on(86_401)
    # What is open looks at a part at a time.
    store = await open_store(url, hands.clock())

    async def two_are_left() -> bool:
        return count(url, schema.meters) == 2

    await eventually(two_are_left)
    assert count(url, schema.attempts) == 2
    await store.close()


async def test_a_name_that_nobody_has_asked_for_takes_as_many_round_trips_as_one_that_is_known(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLAlchemy asks is not in the pipeline, and is waited for."""
    store, other = await open_store(postgresql_url), await open_store(postgresql_url)
    await store.put_secret(StoredSecret("alice", "password", "", b"", None, 1), OWNER, expected_version=None)
    waits = 0
    asked: Callable[[PostgresqlSession], Connection] = vars(PostgresqlSession)["connection"].fget

    def counted(session: PostgresqlSession) -> Connection:
        nonlocal waits
        waits += 1
        return asked(session)

    monkeypatch.setattr(PostgresqlSession, "connection", property(counted))

    async def least(names: Sequence[str]) -> int:
        """The store's own upkeep comes between now and then."""
        took = []
        for name in names:
            # Nothing that is remembered holds any more.
            await other.append(OWNER)
            before = waits
            await store.admit(attempt(name))
            took.append(waits - before)
        return min(took)

    await least(["early"])
    new, known = await least([f"guess-{number}" for number in range(8)]), await least(["alice", "early"] * 2)
    assert new == known > 0
    await store.close()
    await other.close()


async def test_old_idempotency_keys_are_deleted(url: str) -> None:
    hands = Hands()
    store = await open_store(url, hands.clock())
    await asyncio.gather(*(store.admit(attempt(f"n-{n}", "bob", f"key-{n}", b"digest")) for n in range(600)))
    await store.close()
    hands.go_on(keys.KEPT / 1e6 - 1)
    store = await open_store(url, hands.clock())
    await store.admit(attempt("alice", "bob", "new", b"digest"))
    hands.go_on(2)
    await store.close()
    store = await open_store(url, hands.clock())

    async def one_is_left() -> bool:
        return count(url, schema.idempotency) == 1

    await eventually(one_is_left)
    await store.close()


async def test_a_store_that_is_closed_says_so(url: str) -> None:
    store = await open_store(url)
    await store.close()
    with pytest.raises(StoreError):
        await store.admit(attempt("alice"))


async def test_who_is_cancelled_leaves_the_others_their_answers(store: Store) -> None:
    asked = [asyncio.ensure_future(store.admit(attempt("alice"))) for _ in range(3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    assert isinstance(await asked[0], Admitted)
    assert isinstance(await asked[2], Admitted)
    assert await admitted(store, "alice", 1) == 0, "the one that was cancelled was counted"


async def test_a_table_that_was_tampered_with_is_told(url: str) -> None:
    store = await open_store(url, Hands().clock())
    for number in range(9):
        await store.append(OwnerAct("owner", "note", str(number)))
    engine = writer(make_url(url))
    with engine.begin() as connection:
        connection.execute(update(schema.log).where(schema.log.c.number == 5).values(subject="other"))
    verdict = await verify(store.entries())
    assert verdict.broken is not None
    assert (verdict.broken.number, verdict.broken.damage) == (5, "changed")
    await store.close()
