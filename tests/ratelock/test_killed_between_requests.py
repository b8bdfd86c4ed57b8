"""The power is cut between any two requests to DynamoDB: a change has happened whole, or not at all."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.store import Admitted, OwnerAct, Store
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.stores.dynamodb.dates import ServerDates
from jfe_cni.ratelock.stores.dynamodb.store import DynamoStore
from jfe_cni.ratelock.stores.dynamodb.table import Table, client
from jfe_cni.ratelock.stores.history import LEAST_KEPT, PRUNED_TOGETHER
from tests.ratelock.attempts import admitted, attempt, budget, secret
from tests.ratelock.cloud import REGION, Cloud
from tests.ratelock.deeds import DEEDS, add, remove
from tests.ratelock.hands import Hands
from tests.stage.deadline import eventually

# More than the longest of what is tried has.
MOST_REQUESTS = 60

_fork = multiprocessing.get_context("fork")

Deed = Callable[[DynamoStore], Awaitable[object]]


async def prune(store: DynamoStore) -> None:
    """After one attempt more, for a meter is looked at when it is charged."""
    await store.admit(attempt("alice"))
    while store._superfluous:
        await store._commits.alone(store._prune)


def die_at(request: int) -> Callable[..., None]:
    """This process ends where the request of that number would be sent."""
    left = request

    def count(**_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def exit_code(cloud: Cloud, deed: Deed, hands: Hands, *, at: int = 0) -> int | None:
    """Of a process of its own that does it. `at`: the request before which it is killed; 0: it is not."""
    process = _fork.Process(target=lambda: asyncio.run(do(cloud, deed, hands, at)))
    process.start()
    process.join()
    return process.exitcode


async def do(cloud: Cloud, deed: Deed, hands: Hands, at: int) -> None:
    made = client(REGION, cloud.endpoint, 4)
    made.meta.events.register("before-send.dynamodb", die_at(at))
    # Not started: nothing but the deed runs.
    await deed(DynamoStore(Table(made, "ratelock", ServerDates()), hands.clock()))
    # Not closed: what is done is durable when it is answered.
    os._exit(0)


@pytest.mark.parametrize("deed", DEEDS)
async def test_whole_or_not_at_all(dynamodb_url: str, aws: Cloud, hands: Hands, deed: Deed) -> None:
    await (await open_store(dynamodb_url, hands.clock())).close()
    if deed is remove:
        assert exit_code(aws, add, hands) == 0
    ends = []
    before = await state(aws, dynamodb_url)
    for at in range(1, MOST_REQUESTS):
        ends.append(await asyncio.to_thread(partial(exit_code, aws, deed, hands, at=at)))
        if ends[-1] == 0:
            break
        assert ends[-1] == -signal.SIGKILL
        assert await state(aws, dynamodb_url) == before
    assert ends[-1] == 0
    assert await state(aws, dynamodb_url) != before
    assert len(ends) > 2, "it was cut off in several places"


async def state(cloud: Cloud, url: str) -> object:
    """All items, and the log as it verifies; but for the version and the time, which open stores write."""
    pages = client(REGION, cloud.endpoint, 1).get_paginator("scan").paginate(TableName="ratelock", ConsistentRead=True)
    items: list[dict[str, Any]] = [item for page in pages for item in page["Items"]]
    store = await open_store(url, Hands().clock())
    verdict = await verify(store.entries())
    await store.close()
    assert verdict.broken is None
    (head,) = [item for item in items if item["partition"] == {"S": "head"}]
    assert (head["number"], head["hash"]) == ({"N": str(verdict.head.number)}, {"B": verdict.head.hash})
    items.remove(head)
    return sorted(map(repr, items))


async def test_what_is_forgotten_is_forgotten_in_two_halves_and_nothing_counts_less(
    dynamodb_url: str, aws: Cloud, hands: Hands
) -> None:
    """First it is marked, then deleted: who finds the one without the other goes by the mark."""
    earlier, room = 335, 80
    assert earlier + LEAST_KEPT - room == LEAST_KEPT + PRUNED_TOGETHER - 1, "one more, and some are superfluous"
    store = await open_store(dynamodb_url, hands.clock())
    await store.set_budget(secret("alice"), budget((LEAST_KEPT, 1)), OwnerAct("owner", "budget", "alice"))
    await admit(store, earlier)
    hands.go_on(1)
    await admit(store, LEAST_KEPT - room)
    await store.close()
    runs = 0
    while await asyncio.to_thread(partial(exit_code, aws, prune, hands, at=runs + 1)) != 0:
        runs += 1
    assert runs > 6, "it was cut off in several places"
    store = await open_store(dynamodb_url, hands.clock())
    assert (await verify(store.entries())).broken is None
    counted = len([entry async for entry in store.entries() if entry.event == "check"])
    assert remembered(aws) == counted + 1, "all is there still, and the mark"
    room = LEAST_KEPT + earlier - counted
    assert await admitted(store, "alice", room + 9) == room
    hands.go_on(1)
    await admit(store, LEAST_KEPT)
    await asyncio.to_thread(eventually, lambda: remembered(aws) < LEAST_KEPT + PRUNED_TOGETHER + 1, "they go")
    assert await admitted(store, "alice", 1) == 0
    await store.close()


async def admit(store: Store, times: int) -> None:
    verdicts = await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(times)))
    assert all(isinstance(verdict, Admitted) for verdict in verdicts)


def remembered(cloud: Cloud) -> int:
    """Items of the meter."""
    found = client(REGION, cloud.endpoint, 1).query(
        TableName="ratelock",
        KeyConditionExpression="#partition = :meter",
        ExpressionAttributeNames={"#partition": "partition"},
        ExpressionAttributeValues={":meter": {"S": "meter#secret#alice"}},
        Select="COUNT",
    )
    return int(found["Count"])
