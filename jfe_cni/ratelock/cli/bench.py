"""`ratelock bench`: releases and signatures, beside the plain counting transaction of the same kind of store."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.settings import Settings

if TYPE_CHECKING:
    from jfe_cni.ratelock.assembly import Assembled
    from jfe_cni.ratelock.cli.plain_count import PlainCount

CALLERS = (1, 8, 64)
# Never spent, and remembered as exactly as any other.
AMPLE = Budget((Limit(1_000_000, 1_000_000),))
OWNER = Caller("bench", "owner", None, ("*",))
CALLER = Caller("bench", "caller", None, ("*",))
RECORD, KEY = "bench/record", "bench/key"

Ask = Callable[[int], Awaitable[object]]


# In short turns, one after another: what else the machine does lasts longer than one of them.
ROUNDS = 5


@dataclass
class Figures:
    """`rates`: a second, of each round; `times`: seconds of each answer."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def milliseconds(self, part: float) -> float:
        """What `part` of the answers took at most."""
        return sorted(self.times)[int(part * (len(self.times) - 1))] * 1e3

    def part_of(self, limit: Figures) -> float:
        """Round by round."""
        return statistics.median(rate / other for rate, other in zip(self.rates, limit.rates, strict=True))


@click.command()
@click.option("--store", "stores", multiple=True, help="postgresql://… beside SQLite; of its own: it is written to.")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="For each figure.")
def bench(stores: tuple[str, ...], seconds: float) -> None:
    """Measure how many records a second are released and messages signed, for 1, 8 and 64 callers, and what part that
    is of the plain counting transaction of the same store: here, and over HTTP beside a path of the same service that
    does the plain transaction alone. All is durable when it is answered; callers and service are one process.
    """
    with tempfile.TemporaryDirectory(prefix="ratelock-bench-", dir=".") as folder:
        for store in (f"sqlite:///{Path(folder).absolute()}/store.db", *stores):
            asyncio.run(_bench(store, Path(folder), seconds))


async def _bench(store: str, folder: Path, seconds: float) -> None:
    click.echo(
        f"\n{store.partition(':')[0]:12}{'callers':>8}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'of plain':>10}"
    )
    settings = Settings(store=store, key=f"file:{folder / 'key'}", listen=f"unix:{folder / 'socket'}")
    async with _plain(store, folder) as plain, _prepared(settings) as assembled:
        service = assembled.service
        here: dict[str, Ask] = {
            "plain": plain.count,
            "release": lambda _caller: service.release(CALLER, RECORD, ["number"]),
            "sign": lambda _caller: service.sign(CALLER, KEY, b"message"),
        }
        for callers in CALLERS:
            await _table(here, callers, seconds)
        async with _over_http(assembled, settings, plain) as there:
            for callers in CALLERS:
                await _table(there, callers, seconds)


async def _table(asks: dict[str, Ask], callers: int, seconds: float) -> None:
    """The first of them is the limit."""
    found = {name: Figures() for name in asks}
    for number in range(ROUNDS):
        for name in asks if number % 2 else reversed(asks):
            await measure(asks[name], callers, seconds / ROUNDS, found[name])
    limit = next(iter(found.values()))
    for name, each in found.items():
        click.echo(
            f"{name:12}{callers:8}{each.rate:10.0f}{each.milliseconds(0.5):9.2f}{each.milliseconds(0.99):9.2f}"
            f"{each.part_of(limit):10.2f}"
        )


async def measure(ask: Ask, callers: int, seconds: float, figures: Figures) -> None:
    """Each caller asks again as soon as it is answered."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def go_on(caller: int) -> None:
        began = time.perf_counter()
        while began < end:
            await ask(caller)
            now = time.perf_counter()
            times.append(now - began)
            began = now

    started = time.perf_counter()
    await asyncio.gather(*(go_on(caller) for caller in range(callers)))
    figures.rates.append(len(times) / (time.perf_counter() - started))
    figures.times += times


@contextlib.asynccontextmanager
async def _plain(store: str, folder: Path) -> AsyncIterator[PlainCount]:
    from jfe_cni.ratelock.cli.plain_count import PostgresqlCount, SqliteCount

    sqlite = store.startswith("sqlite:")
    plain: PlainCount = (
        SqliteCount(folder / "plain.db") if sqlite else await PostgresqlCount.connect(store, max(CALLERS))
    )
    try:
        yield plain
    finally:
        await plain.close()


@contextlib.asynccontextmanager
async def _prepared(settings: Settings) -> AsyncIterator[Assembled]:
    from jfe_cni.ratelock.assembly import opened

    async with opened(settings) as assembled:
        service = assembled.service
        await service.add_record(OWNER, RECORD, {"number": "4111", "name": "A. Person"})
        await service.add_key(OWNER, KEY, "ed25519")
        for name in (RECORD, KEY):
            await service.set_budget(OWNER, Meter("secret", name), AMPLE)
        yield assembled
        for name in (RECORD, KEY):
            await service.remove(OWNER, name)


@contextlib.asynccontextmanager
async def _over_http(assembled: Assembled, settings: Settings, plain: PlainCount) -> AsyncIterator[dict[str, Ask]]:
    """The service, and one path more that counts plainly: a route like the others, behind the same bounds, for a caller
    with the same token. What it costs to be asked by HTTP is in both."""
    from jfe_cni.ratelock import server
    from jfe_cni.ratelock.api.app import routed
    from jfe_cni.ratelock.api.authentication import Authentication, Identities
    from jfe_cni.ratelock.api.boundary import Boundary
    from jfe_cni.ratelock.api.health import Readiness
    from jfe_cni.ratelock.api.metrics import Metrics
    from jfe_cni.ratelock.client import AsyncClient
    from jfe_cni.ratelock.exchange import Call

    metrics = Metrics()
    routes = routed(assembled.service, Readiness(assembled.ready), metrics)

    @routes.post("/plain/{caller}")
    async def count(caller: int) -> dict[str, str]:
        await plain.count(caller)
        return {}

    app = Boundary(routes, Authentication(assembled.service, Identities()), metrics, settings)
    token = await assembled.service.make_token(
        OWNER, CALLER.identity, "caller", frozenset({"release", "sign"}), ("bench/*",), 3600
    )
    with server.listening(settings.listen) as bound:
        url = server.url_of(bound, secure=False)
        async with server.running(app, bound, settings, None), contextlib.AsyncExitStack() as stack:
            # One each: a pool of connections would be measured, too.
            clients = [await stack.enter_async_context(AsyncClient(url, token=token)) for _ in range(max(CALLERS))]
            yield {
                "plain, HTTP": lambda caller: clients[caller].call(Call("POST", f"/plain/{caller}")),
                "release": lambda caller: clients[caller].release(RECORD, ["number"]),
                "sign": lambda caller: clients[caller].sign(KEY, b"message"),
            }
