"""The stage: PostgreSQL, a key-encryption key, two replicas; and the run in which one of them is killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from jfe_cni.ratelock.assembly import opened
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import AsyncClient
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.demo.callers import Callers
from jfe_cni.ratelock.demo.findings import Absence, Findings, Log
from jfe_cni.ratelock.demo.replica import Echo, Replica
from jfe_cni.ratelock.settings import Settings

NAMES = ("a", "b")
RECORD = "demo/card"
COUNT, WINDOW_SECONDS = 20, 2.0
CALLERS = 16
SECONDS = 10.0
# Of the run: when a replica is killed, and when it is started again.
_KILLED, _BACK = 0.3, 0.6
_TOKEN_SECONDS = 86_400.0


@dataclass(frozen=True)
class Stage:
    """Two replicas that serve, and credentials of an owner and a caller who may release what is below `demo/`."""

    replicas: tuple[Replica, Replica]
    owner: str = field(repr=False)
    caller: str = field(repr=False)


@contextlib.asynccontextmanager
async def stage(echo: Echo | None = None) -> AsyncIterator[Stage]:
    """Nothing of it is left afterwards. Raises HostError where PostgreSQL or a replica can't be started."""
    with TemporaryDirectory(prefix="ratelock-demo-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            server = await _entered(stack, postgresql.server(durable=True))
            store, key = await asyncio.to_thread(server.database), f"file:{Path(folder, 'key')}"
            async with opened(Settings(store=store, key=key)) as assembled:
                owner = await assembled.service.bootstrap(_TOKEN_SECONDS)
            assert owner is not None, "the store is new"
            settings = {"RATELOCK_STORE": store, "RATELOCK_KEY": key, "RATELOCK_LISTEN": "127.0.0.1:0"}
            first, second = (Replica(name, settings, echo) for name in NAMES)
            for replica in (first, second):
                stack.push_async_callback(replica.stop)
            await asyncio.gather(first.start(), second.start())
            assert first.url is not None
            async with AsyncClient(first.url, token=owner) as client:
                made = await client.make_token("demo", "caller", ["release"], ["demo/*"], _TOKEN_SECONDS)
            yield Stage((first, second), owner, str(made["token"]))


async def perform(on: Stage, seconds: float = SECONDS) -> Findings:
    """Callers hammer at both replicas; the second one is killed meanwhile, and started again."""
    first, second = on.replicas
    assert first.url is not None
    async with AsyncClient(first.url, token=on.owner) as owner:
        await owner.add_record(RECORD, {"number": "4111 1111 1111 1111"})
        limit = Limit(COUNT, round(WINDOW_SECONDS * 1e6))
        await owner.set_budget(Meter("secret", RECORD), Budget((limit,)))
        callers = Callers(on.replicas, on.caller, RECORD, CALLERS)
        _, absence = await asyncio.gather(callers.ask_for(seconds), _kill_and_start(second, seconds))
        return Findings(COUNT, WINDOW_SECONDS, seconds, callers.answers, absence, await _log(owner))


async def _kill_and_start(replica: Replica, seconds: float) -> Absence:
    await asyncio.sleep(seconds * _KILLED)
    await replica.kill()
    began = time.monotonic()
    await asyncio.sleep(seconds * (_BACK - _KILLED))
    ended = time.monotonic()
    await replica.start()
    return Absence(replica.name, began, ended)


async def _log(owner: AsyncClient) -> Log:
    releases, at = 0, 1
    while True:
        page = await owner.log(at)
        releases += sum(entry["event"] == "release" and entry["subject"] == RECORD for entry in page["entries"])
        if page["next"] is None:
            break
        at = page["next"]
    return Log(releases, bool((await owner.verify_log())["intact"]))


async def _entered(
    stack: contextlib.AsyncExitStack, server: contextlib.AbstractContextManager[postgresql.Server]
) -> postgresql.Server:
    """On threads: it waits for a process."""

    async def leave() -> None:
        await asyncio.to_thread(server.__exit__, None, None, None)

    entered = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(leave)
    return entered
