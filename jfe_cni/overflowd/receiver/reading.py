"""What was taken, read from a store, and nothing of it changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from joserfc import jws
from joserfc.errors import JoseError
from sqlalchemy import URL, Executable, Row, func, select

from jfe_cni.databases.engines import READERS, reader, sql_url
from jfe_cni.databases.faults import DATABASE_ERRORS, store_error
from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices import notice as notices
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.receiver import schema
from jfe_cni.overflowd.receiver.kept import Kept
from jfe_cni.overflowd.receiver.tables import TABLES

log = logging.getLogger("overflowd")

_PAGE = 1_000


class StoreReader:
    """For one event loop; what touches the database runs in threads of its own. All of it raises StoreError: the
    database is away, or refuses. `unreadable`: kept notices that this release can't read, and leaves out, each as often
    as it was met."""

    def __init__(self, url: URL) -> None:
        self.unreadable = 0
        self._reader = reader(url)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="overflowd-reads")

    async def close(self) -> None:
        await asyncio.to_thread(self._readers.shutdown)
        self._reader.dispose()

    async def since(self, number: int, most: int = _PAGE) -> Sequence[Kept]:
        """Those after that one, in order. None: there are none."""
        of = schema.notices.c
        while True:
            rows = await self._read(select(schema.notices).where(of.number > number).order_by(of.number).limit(most))
            found = await self._kept(rows)
            if found or not rows:
                return found
            number = rows[-1].number

    async def newest(self, most: int) -> Sequence[Kept]:
        """The newest first."""
        return await self._kept(
            await self._read(select(schema.notices).order_by(schema.notices.c.number.desc()).limit(most))
        )

    async def before(self, taken: Microseconds, most: int) -> int:
        """The number that those which were taken from then on come after; not more than the newest `most`."""
        of = schema.notices.c
        older = select(func.max(of.number)).where(of.taken < taken).scalar_subquery()
        too_many = select(of.number).order_by(of.number.desc()).offset(most).limit(1).scalar_subquery()
        (row,) = await self._read(select(older, too_many))
        return max(each or 0 for each in tuple(row))

    async def check(self) -> None:
        """Raises RequestError: its tables are not those of this release."""

        def revision() -> str | None:
            try:
                with self._reader.connect() as connection:
                    return MigrationContext.configure(connection).get_current_revision()
            except DATABASE_ERRORS as error:
                raise store_error(error) from error

        found = await asyncio.get_running_loop().run_in_executor(self._readers, revision)
        if found != TABLES.newest:
            raise RequestError(
                f"the store's tables are of another release (revision {found}; this one knows {TABLES.newest})",
                remedy="read it with the release that its receiver is of, or from its page: --url",
            )

    async def _kept(self, rows: Sequence[Row[Any]]) -> Sequence[Kept]:
        found = await asyncio.get_running_loop().run_in_executor(self._readers, lambda: list(map(_kept, rows)))
        readable = [each for each in found if each is not None]
        if len(readable) < len(found):
            self.unreadable += len(found) - len(readable)
            log.warning("%d kept notices are of no form that this release reads", len(found) - len(readable))
        return readable

    async def _read(self, statement: Executable) -> Sequence[Row[Any]]:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._rows, statement)

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement).all()
        except DATABASE_ERRORS as error:
            raise store_error(error) from error


async def open_reader(url: str) -> StoreReader:
    """Of a store that is there, as `store.open_store` made it. Raises RequestError, StoreError."""
    parsed = sql_url(url, "the store")
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not path.is_file():
            raise RequestError(f"{path} is no store", remedy="name the one of a receiver: --store")
        # URI filenames (sqlite.org/uri.html): without `mode`, a driver would make what is not there.
        parsed = parsed.set(database=path.absolute().as_uri()).update_query_dict({"mode": "ro", "uri": "true"})
    opened = StoreReader(parsed)
    try:
        await opened.check()
    except BaseException:
        await opened.close()
        raise
    return opened


def _kept(row: Row[Any]) -> Kept | None:
    # It was verified and read when it was taken: by another release, perhaps, which read more.
    try:
        notice = notices.decode(jws.extract_compact(row.signed.encode()).payload)
    except (JoseError, ValueError):
        return None
    return Kept(row.number, row.taken, row.domain, row.key, notice) if isinstance(notice, Notice) else None
