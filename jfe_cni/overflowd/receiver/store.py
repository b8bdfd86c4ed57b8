"""What was taken, and whose keys are believed, in SQLite or PostgreSQL: several replicas may share the latter."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from joserfc import jws
from joserfc.jwk import OKPKey
from sqlalchemy import URL, Connection, Executable, Row, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from jfe_cni.databases.commits import GroupCommit
from jfe_cni.databases.engines import READERS, make_private, migrator, reader, writer
from jfe_cni.databases.faults import DATABASE_ERRORS, may_pass, store_error
from jfe_cni.databases.upgrade import upgrade
from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices import notice as notices
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.notices.signing import Refused
from jfe_cni.overflowd.receiver import retention, schema
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Taken
from jfe_cni.overflowd.receiver.kept import Change, Kept, Pin
from jfe_cni.overflowd.receiver.pins import Keys, Pinning, pinning
from jfe_cni.overflowd.receiver.tables import TABLES

Answer = TypeVar("Answer")

NotPut = Stale | Refused

_PAGE = 1_000
# Seconds. Of two that make one file of SQLite, one finds it locked while the other sets its journal up, and is not made
# to wait (sqlite.org/wal.html, 9: "busy").
_PAUSES = (0.1, 0.3, 1.0)


class Store:
    """Made by `open_store`. For one event loop; what touches the database runs in threads of its own. All of it raises
    StoreError: the database is away, or refuses."""

    def __init__(self, url: URL) -> None:
        self._writer, self._reader = writer(url), reader(url)
        self._replicated = url.get_backend_name() == "postgresql"
        self._commits = GroupCommit[tuple[Taken, Microseconds] | None, NotPut | None](self._put)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="overflowd-reads")

    async def close(self) -> None:
        """What is being kept is kept first."""
        await self._commits.close()
        await asyncio.to_thread(self._readers.shutdown)
        self._writer.dispose()
        self._reader.dispose()

    async def put(self, taken: Taken, at: Microseconds) -> NotPut | None:
        """Durable when it returns None. Else why it is not: what another replica, or retention, has done meanwhile."""
        return await self._commits.submit((taken, at))

    async def settled(self) -> None:
        """What is being kept by now is durable."""
        await self._commits.submit(None)

    async def since(self, number: int, most: int = _PAGE) -> Sequence[Kept]:
        """Those after that one, in order."""
        of = schema.notices.c
        return await self._read_kept(select(schema.notices).where(of.number > number).order_by(of.number).limit(most))

    async def newest(self, most: int) -> Sequence[Kept]:
        """The newest first."""
        return await self._read_kept(select(schema.notices).order_by(schema.notices.c.number.desc()).limit(most))

    async def before(self, taken: Microseconds, most: int) -> int:
        """The number that those which were taken from then on come after; not more than the newest `most`."""
        of = schema.notices.c
        older = select(func.max(of.number)).where(of.taken < taken).scalar_subquery()
        too_many = select(of.number).order_by(of.number.desc()).offset(most).limit(1).scalar_subquery()
        (row,) = await self._read(select(older, too_many))
        return max(each or 0 for each in tuple(row))

    async def pins(self) -> Mapping[str, Mapping[str, Pin]]:
        """By domain and thumbprint."""
        found: dict[str, dict[str, Pin]] = {}
        for row in await self._read(select(schema.pins)):
            pin = Pin(OKPKey.import_key(json.loads(row.jwk)), row.pinned, row.forgotten)
            found.setdefault(row.domain, {})[row.key] = pin
        return found

    async def pin(self, domain: str, published: Keys, at: Microseconds) -> tuple[Pinning, Mapping[str, Pin]]:
        """By the rule of `pins.py`; and what is believed of that domain from now on."""
        return await self._alone(lambda connection: _pin(connection, domain, published, at))

    async def unpin(self, domain: str) -> bool:
        """What it publishes when it is next heard of is believed. Whether it was known."""

        def forget(connection: Connection) -> bool:
            connection.execute(schema.changes.delete().where(schema.changes.c.domain == domain))
            return connection.execute(schema.pins.delete().where(schema.pins.c.domain == domain)).rowcount > 0

        return await self._alone(forget)

    async def changes(self) -> Sequence[Change]:
        rows = await self._read(select(schema.changes).order_by(schema.changes.c.domain))
        return [Change(row.domain, tuple(json.loads(row.keys)), row.since) for row in rows]

    async def announce(self, flood: str, at: Microseconds) -> bool:
        """Whether nobody had: whoever hears True is the one to tell of it."""

        def claim(connection: Connection) -> bool:
            statement = self._insert(schema.announced).values(flood=flood, at=at).on_conflict_do_nothing()
            return connection.execute(statement.returning(schema.announced.c.flood)).first() is not None

        return await self._alone(claim)

    async def prune(self, now: Microseconds, age: Microseconds, most: int) -> int:
        """How many are gone, of those that are older than `age` or more than `most`: some thousands at one time."""
        return await self._alone(lambda connection: retention.prune(connection, now, age, most))

    async def ready(self) -> None:
        """It takes changes."""
        await self._alone(lambda connection: connection.execute(select(1)))

    def _put(self, together: Sequence[tuple[Taken, Microseconds] | None]) -> Sequence[NotPut | None]:
        rows = [None if each is None else _row(*each) for each in together]
        if not any(rows):
            return [None] * len(rows)
        return self._transact(lambda connection: self._keep_all(connection, rows))

    def _keep_all(self, connection: Connection, rows: Sequence[Mapping[str, Any] | None]) -> Sequence[NotPut | None]:
        domains = {row["domain"] for row in rows if row is not None}
        found = connection.execute(select(schema.pins).where(schema.pins.c.domain.in_(domains))).all()
        forgotten = {(pin.domain, pin.key): pin.forgotten for pin in found}
        return [None if row is None else self._keep(connection, row, forgotten) for row in rows]

    def _keep(
        self, connection: Connection, row: Mapping[str, Any], forgotten: Mapping[tuple[str, str], Microseconds]
    ) -> NotPut | None:
        youngest = forgotten.get((row["domain"], row["key"]))
        if youngest is None:
            return Refused.UNKNOWN_KEY
        if row["made"] <= youngest:
            return Stale.TOO_OLD
        statement = self._insert(schema.notices).values(row).on_conflict_do_nothing()
        put = connection.execute(statement.returning(schema.notices.c.number)).first() is not None
        return None if put else Stale.REPLAYED

    def _insert(self, table: Any) -> Any:
        return (postgresql.insert if self._replicated else sqlite.insert)(table)

    async def _alone(self, work: Callable[[Connection], Answer]) -> Answer:
        return await self._commits.alone(lambda: self._transact(work))

    def _transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Twice, where a server may have been started anew: the first connection is gone then."""
        for tries_left in (1, 0):
            try:
                return self._transact_once(work)
            except DATABASE_ERRORS as error:
                if not (tries_left and self._replicated and may_pass(error)):
                    raise store_error(error) from error
        raise AssertionError("the last try returns or raises")

    def _transact_once(self, work: Callable[[Connection], Answer]) -> Answer:
        with self._writer.begin() as connection:
            if self._replicated:
                # One replica at a time: a number that is seen is never followed by a smaller one.
                connection.execute(select(func.pg_advisory_xact_lock(TABLES.lock)))
            return work(connection)

    async def _read(self, statement: Executable) -> Sequence[Row[Any]]:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._rows, statement)

    async def _read_kept(self, statement: Executable) -> Sequence[Kept]:
        def read() -> Sequence[Kept]:
            return [_kept(row) for row in self._rows(statement)]

        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement).all()
        except DATABASE_ERRORS as error:
            raise store_error(error) from error


async def open_store(url: str) -> Store:
    """`sqlite:///PATH` (four slashes for an absolute one) or `postgresql://USER:PASSWORD@HOST/DATABASE`, a database of
    its own; tables are made or brought up to date. Raises RequestError, StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        # Not the URL itself: it may have a password in it.
        raise RequestError(
            "the store's URL is of no kind that is known", remedy="give sqlite:///PATH or postgresql://HOST/DATABASE"
        )
    for pause in (*_PAUSES, None):
        try:
            await asyncio.to_thread(_upgrade, parsed)
            break
        except OSError as error:
            raise RequestError(
                f"{parsed.database} can't be opened: {error.strerror}", remedy="name a file in a folder of ours"
            ) from error
        except DATABASE_ERRORS as error:
            if pause is None or not may_pass(error):
                raise store_error(error) from error
            await asyncio.sleep(pause)
    return Store(parsed)


def _upgrade(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(Path(url.database))
    with contextlib.closing(_Disposed(url)) as engine:
        upgrade(engine.engine, TABLES)


class _Disposed:
    def __init__(self, url: URL) -> None:
        self.engine = migrator(url)

    def close(self) -> None:
        self.engine.dispose()


def _row(taken: Taken, at: Microseconds) -> Mapping[str, Any]:
    return {
        "taken": at,
        "made": taken.notice.made,
        "domain": taken.publisher.domain,
        "key": taken.key,
        "nonce": taken.notice.nonce,
        "to": taken.notice.to.value,
        "signed": taken.signed.decode("ascii"),
    }


def _kept(row: Row[Any]) -> Kept:
    notice = notices.decode(jws.extract_compact(row.signed.encode()).payload)
    # It was verified and read by this schema when it was taken.
    assert isinstance(notice, Notice)
    return Kept(row.number, row.taken, row.domain, row.key, notice)


def _pin(connection: Connection, domain: str, published: Keys, at: Microseconds) -> tuple[Pinning, Mapping[str, Pin]]:
    rows = connection.execute(select(schema.pins).where(schema.pins.c.domain == domain)).all()
    pinned = {row.key: Pin(OKPKey.import_key(json.loads(row.jwk)), row.pinned, row.forgotten) for row in rows}
    outcome = pinning({name: pin.key for name, pin in pinned.items()}, published)
    connection.execute(schema.changes.delete().where(schema.changes.c.domain == domain))
    if outcome is Pinning.CHANGED:
        names = json.dumps(sorted(published))
        connection.execute(schema.changes.insert().values(domain=domain, keys=names, since=at))
        return outcome, pinned
    believed = {name: pinned.get(name) or Pin(key, at, 0) for name, key in published.items()}
    if outcome is not Pinning.SAME:
        connection.execute(schema.pins.delete().where(schema.pins.c.domain == domain))
        connection.execute(schema.pins.insert(), [_pin_row(domain, *each) for each in believed.items()])
    return outcome, believed


def _pin_row(domain: str, name: str, pin: Pin) -> Mapping[str, Any]:
    jwk = json.dumps(pin.key.as_dict(private=False))
    return {"domain": domain, "key": name, "jwk": jwk, "pinned": pin.pinned, "forgotten": pin.forgotten}
