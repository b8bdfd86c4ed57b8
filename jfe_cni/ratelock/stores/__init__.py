"""Where ratelock keeps what it counts and guards; which one is said by a URL."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from jfe_cni.databases.engines import make_private, reader, writer
from jfe_cni.databases.faults import DATABASE_ERRORS, store_error
from jfe_cni.databases.upgrade import upgrade_at
from jfe_cni.errors import RequestError
from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.store import Store
from jfe_cni.ratelock.stores.clock import TRUSTED_ABSENCE, Clock, MachineClock, ServerClock, this_machine
from jfe_cni.ratelock.stores.sql import SqlStore
from jfe_cni.ratelock.stores.tables import TABLES


async def open_store(url: str, clock: Clock | None = None, *, trusted_absence: Microseconds = TRUSTED_ABSENCE) -> Store:
    """`sqlite:///PATH` (four slashes for an absolute one), `postgresql://USER:PASSWORD@HOST/DATABASE` or
    `dynamodb://TABLE?region=REGION&endpoint=URL`. An older release's tables are brought up to date. `clock`: None, the
    one that suits the store. `trusted_absence`: how much the wall clock is believed to have gone on between two boots,
    where there is no other.

    Raises RequestError for another URL, and where the tables are a newer release's; StoreError where the database can't
    be reached or refuses.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("")
    match parsed.get_backend_name():
        case "sqlite":
            return await _open_sql(parsed, clock or MachineClock(this_machine(), trusted_absence))
        case "postgresql":
            return await _open_sql(parsed, clock or ServerClock())
        case "dynamodb":
            from jfe_cni.ratelock.stores.dynamodb import open_dynamodb

            return await open_dynamodb(parsed.host or "", parsed.query, clock)
        case _:
            # Not the URL itself: it may have a password in it.
            raise RequestError(
                "the store's URL is of no kind that is known",
                remedy="give sqlite:///PATH, postgresql://HOST/DATABASE or dynamodb://TABLE?region=REGION",
            )


async def _open_sql(url: URL, clock: Clock) -> Store:
    writing, reading = writer(url), reader(url)
    try:
        with contextlib.ExitStack() as failed:
            failed.callback(writing.dispose)
            failed.callback(reading.dispose)
            if url.get_backend_name() == "sqlite":
                make_private(Path(url.database or ""))
            await asyncio.to_thread(upgrade_at, url, TABLES)
            failed.pop_all()
    except OSError as error:
        raise RequestError(
            f"{url.database} can't be opened: {error.strerror}",
            remedy="name a file in a folder of ours",
        ) from error
    except DATABASE_ERRORS as error:
        raise store_error(error) from error
    store = SqlStore(writing, reading, clock)
    async with contextlib.AsyncExitStack() as failed_to_start:
        failed_to_start.push_async_callback(store.close)
        await store.start()
        failed_to_start.pop_all()
    return store
