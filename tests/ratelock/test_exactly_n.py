"""Exactly N of M: many callers, two replicas, killed and started again at random, under a clock that jumps."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.store import Admitted, StoredSecret
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.attempts import OWNER, attempt, budget, eventually, secret
from tests.ratelock.hands import SECOND
from tests.ratelock.replica import SECRETS, Answer, SharedClock, answers, run
from tests.ratelock.windows import assert_never_one_more, assert_within, is_charged, most_within

CALLERS = 64
SECONDS = 15.0
CLASS = "staff"
BUDGETS = {
    secret("alice"): budget((7, 0.5), (20, 2)),
    Meter("class", CLASS): budget((9, 0.5), (30, 2)),
    Meter("all"): budget((24, 1.5)),
    # Both replicas number their callers.
    **{Meter("caller", f"caller-{number}"): budget((1, 2)) for number in range(8)},
}

# The processes share nothing with this one, and start at once.
_fork = multiprocessing.get_context("fork")


def start(url: str, folder: Path, number: int) -> BaseProcess:
    process = _fork.Process(target=run, args=(url, folder, folder / f"record-{number}", CALLERS // 2))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


# A table of DynamoDB takes longer to open than these replicas live: test_dynamodb.py has its own.
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_never_one_more_is_admitted_in_any_window(url: str, tmp_path: Path) -> None:
    chance = random.Random(url)
    shared = SharedClock(tmp_path / "clock")
    asyncio.run(set_budgets(url, shared))
    boot, off, starts = 1, 0.0, 2
    replicas = [start(url, tmp_path, number) for number in range(2)]
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.05, 0.6))
            # A server's clock is trusted not to be ahead; set back it must do no harm.
            off = off - chance.uniform(0, 0.2) if url.startswith("postgresql") else chance.uniform(-1e6, 1e6)
            if url.startswith("sqlite") and chance.random() < 0.15:
                # The machine restarts, its clock not ahead of where it was.
                for replica in replicas:
                    kill(replica)
                boot += 1
                off = -1e6 * boot
                shared.set(round(off * SECOND), boot)
                replicas = [start(url, tmp_path, starts + number) for number in range(2)]
                starts += 2
                continue
            shared.set(round(off * SECOND), boot)
            which = chance.randrange(2)
            kill(replicas[which])
            replicas[which] = start(url, tmp_path, starts)
            starts += 1
    finally:
        for replica in replicas:
            kill(replica)
    found = [answer for record in tmp_path.glob("record-*") for answer in answers(record)]
    seen = [answer for answer in found if answer.number]
    assert starts > 15
    assert len(seen) > 30, "some were admitted"
    assert len(found) > 2 * len(seen), "more asked than there was room for"
    assert_never_one_more(seen, BUDGETS)
    asyncio.run(the_log_agrees(url, shared, seen))


def test_the_count_of_a_window_would_see_one_too_many() -> None:
    seen = [Answer(n * 10, n * 10 + 3, n, "bob", "alice") for n in range(1, 9)]
    assert [most_within(seen, window) for window in (3, 4, 13, 14, 34)] == [0, 1, 1, 2, 4]


async def set_budgets(url: str, shared: SharedClock) -> None:
    store = await open_store(url, shared.clock(url))
    for name in SECRETS:
        await store.put_secret(StoredSecret(name, "record", CLASS, b"sealed", None, 1), OWNER, expected_version=None)
    for meter, each in BUDGETS.items():
        await store.set_budget(meter, each, OWNER)
    await store.close()


async def the_log_agrees(url: str, shared: SharedClock, seen: Sequence[Answer]) -> None:
    """Whoever was answered is in it, and by the store's own time no window has too many. The budget is not lost."""
    store = await open_store(url, shared.clock(url))
    assert (await verify(store.entries())).broken is None
    counted = {entry.number: entry async for entry in store.entries() if entry.event == "check"}
    assert len({answer.number for answer in seen}) == len(seen)
    for answer in seen:
        entry = counted[answer.number]
        assert (entry.actor, entry.subject) == (answer.caller, answer.secret)
    for meter, each in BUDGETS.items():
        assert_within(sorted(at.at for at in counted.values() if is_charged(meter, at.actor, at.subject)), each)

    async def is_admitted() -> bool:
        return isinstance(await store.admit(attempt("alice")), Admitted)

    await eventually(is_admitted)
    await store.close()
