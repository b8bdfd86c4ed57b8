"""A replica of the tests: many callers that ask a table of DynamoDB as fast as they are answered, until it is killed.

    python -m tests.ratelock.dynamodb_replica URL CALLERS LEAD

Every admitted attempt is a line: CLOCK_BOOTTIME before it was asked for and after it was answered, in microseconds, the
log's number, the caller and the secret. `LEAD`: seconds that this replica's own clock is ahead of another's.
"""

from __future__ import annotations

import asyncio
import random
import sys

from sqlalchemy import make_url

from jfe_cni.errors import StoreError
from jfe_cni.ratelock.store import Admitted, Store
from jfe_cni.ratelock.stores.dynamodb import open_dynamodb
from jfe_cni.ratelock.stores.dynamodb.dates import SECOND, ServerDates, boottime
from tests.ratelock.attempts import attempt
from tests.ratelock.replica import SECRETS


async def _call(store: Store, caller: str) -> None:
    while True:
        sent, secret = boottime(), random.choice(SECRETS)
        try:
            verdict = await store.admit(attempt(secret, caller))
        except StoreError:
            continue
        if isinstance(verdict, Admitted):
            sys.stdout.write(f"{sent} {boottime()} {verdict.number} {caller} {secret}\n")
            sys.stdout.flush()


async def _run(url: str, callers: int, lead: int) -> None:
    parsed = make_url(url)
    dates = ServerDates(lambda: boottime() + lead * SECOND)
    store = await open_dynamodb(parsed.host or "", parsed.query, dates=dates)
    await asyncio.gather(*(_call(store, f"caller-{number}") for number in range(callers)))


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
