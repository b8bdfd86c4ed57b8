"""A table of DynamoDB as a store, opened by its URL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.store import Store
from jfe_cni.ratelock.stores.clock import Clock
from jfe_cni.ratelock.stores.dynamodb.dates import ServerDates
from jfe_cni.ratelock.stores.dynamodb.store import READERS, DynamoStore
from jfe_cni.ratelock.stores.dynamodb.table import Table, client

_KNOWN = frozenset({"region", "endpoint", "create"})


async def open_dynamodb(
    table: str, query: Mapping[str, str | Sequence[str]], clock: Clock | None = None, dates: ServerDates | None = None
) -> Store:
    """`query`: of the URL: `region`, `endpoint` where it is not AWS's, `create=true` to make the table where there is
    none. Credentials are those that boto3 finds. `clock`: None, the server's, which is known by `dates`.

    Raises HostError: boto3 is not installed; RequestError: the URL lacks something; StoreError: no such table, or a
    newer release's, among others."""
    given = {name: value for name, value in query.items() if isinstance(value, str)}
    if not table or given.keys() != query.keys() or not given.keys() <= _KNOWN:
        raise RequestError(
            "the store's URL has not what DynamoDB needs", remedy="give dynamodb://TABLE?region=REGION[&endpoint=URL]"
        )
    made = await asyncio.to_thread(partial(client, given.get("region"), given.get("endpoint"), READERS + 1))
    opened = Table(made, table, dates or ServerDates())
    if given.get("create") == "true":
        await asyncio.to_thread(opened.create)
    store = DynamoStore(opened, clock)
    await store.start()
    return store
