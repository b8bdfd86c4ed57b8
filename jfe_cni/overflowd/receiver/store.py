"""What was taken, and whose keys are believed, in SQLite or PostgreSQL: several replicas may share the latter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from jfe_cni.databases.commits import GroupCommit
from jfe_cni.databases.engines import make_private, sql_url, writer
from jfe_cni.databases.faults import DATABASE_ERRORS, may_pass, store_error
from jfe_cni.databases.upgrade import upgrade_at
from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.signing import Refused
from jfe_cni.overflowd.receiver import announcements, pinned, retention, schema
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Taken
from jfe_cni.overflowd.receiver.kept import Announcement, Change, Pin
from jfe_cni.overflowd.receiver.pins import Keys, Pinning
from jfe_cni.overflowd.receiver.reading import StoreReader
from jfe_cni.overflowd.receiver.tables import TABLES

Answer = TypeVar("Answer")

NotPut = Stale | Refused

# Seconds. Of two that make one file of SQLite, one finds it locked while the other sets its journal up, and is not made
# to wait (sqlite.org/wal.html, 9: "busy").
_PAUSES = (0.1, 0.3, 1.0)


class Store(StoreReader):
    """Made by `open_store`."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._writer = writer(url)
        self._replicated = url.get_backend_name() == "postgresql"
        self._commits = GroupCommit[tuple[Taken, Microseconds] | None, NotPut | None](self._put)

    async def close(self) -> None:
        """What is being kept is kept first."""
        await self._commits.close()
        await super().close()
        self._writer.dispose()

    async def put(self, taken: Taken, at: Microseconds) -> NotPut | None:
        """Durable when it returns None. Else why it is not: what another replica, or retention, has done meanwhile."""
        return await self._commits.submit((taken, at))

    async def settled(self) -> None:
        """What is being kept by now is durable."""
        await self._commits.submit(None)

    async def pins(self) -> Mapping[str, Mapping[str, Pin]]:
        """By domain and thumbprint."""
        found: dict[str, dict[str, Pin]] = {}
        for row in await self._read(select(schema.pins)):
            found.setdefault(row.domain, {})[row.key] = pinned.of_row(row)
        return found

    async def pin(self, domain: str, published: Keys, at: Microseconds) -> tuple[Pinning, Mapping[str, Pin]]:
        """By the rule of `pins.py`; and what is believed of that domain from now on."""
        return await self._alone(lambda connection: pinned.pin(connection, domain, published, at))

    async def unpin(self, domain: str) -> bool:
        """What it publishes when it is next heard of is believed. Whether it was known."""
        return await self._alone(lambda connection: pinned.unpin(connection, [domain]))

    async def changes(self) -> Sequence[Change]:
        rows = await self._read(select(schema.changes).order_by(schema.changes.c.domain))
        return [Change(row.domain, tuple(json.loads(row.keys)), row.since) for row in rows]

    async def told(self, webhook: str, since: Mapping[str, Microseconds]) -> frozenset[str]:
        """Of those, by name, what that webhook was told. See `announcements.py`."""
        return await self._alone(lambda connection: announcements.told(connection, webhook, since))

    async def claim(self, webhook: str, one: Announcement, now: Microseconds, until: Microseconds) -> bool:
        """Whether it is to be told by whoever asks, by then."""
        into = self._insert(schema.announcements)
        return await self._alone(lambda connection: announcements.claim(connection, into, webhook, one, now, until))

    async def settle(self, webhook: str, name: str, until: Microseconds) -> None:
        """It is told. `until`: as it was claimed."""
        await self._alone(lambda connection: announcements.settle(connection, webhook, name, until))

    async def release(self, webhook: str, name: str, until: Microseconds) -> None:
        """It is not: another may."""
        await self._alone(lambda connection: announcements.release(connection, webhook, name, until))

    async def go_on(self, going: Sequence[Announcement]) -> None:
        await self._alone(lambda connection: announcements.go_on(connection, going))

    async def publish(self, key: str, at: Microseconds, alive: Microseconds) -> Sequence[str]:
        """By thumbprint, the key that notices to this replica are sealed to. Which others are published, by replicas
        that said so less than `alive` ago."""

        def put(connection: Connection) -> Sequence[str]:
            of = schema.sealing_keys.c
            connection.execute(schema.sealing_keys.delete().where(of.seen <= at - alive))
            statement = self._insert(schema.sealing_keys).values(key=key, seen=at)
            connection.execute(statement.on_conflict_do_update(index_elements=[of.key], set_={"seen": at}))
            return connection.execute(select(of.key).where(of.key != key).order_by(of.key)).scalars().all()

        return await self._alone(put)

    async def withdraw(self, key: str) -> None:
        """This replica publishes it no more; others that do say so again."""
        of = schema.sealing_keys.c
        await self._alone(lambda connection: connection.execute(schema.sealing_keys.delete().where(of.key == key)))

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
        answers = [None if row is None else self._keep(connection, row, forgotten) for row in rows]
        kept = {
            row["domain"]: row["taken"]
            for row, answer in zip(rows, answers, strict=True)
            if row is not None and answer is None
        }
        pinned.use(connection, {pin.domain: pin.used for pin in found}, kept)
        return answers

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


async def open_store(url: str) -> Store:
    """`sqlite:///PATH` (four slashes for an absolute one) or `postgresql://USER:PASSWORD@HOST/DATABASE`, a database of
    its own; tables are made or brought up to date. Raises RequestError, StoreError."""
    parsed = sql_url(url, "the store")
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
    upgrade_at(url, TABLES)


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
