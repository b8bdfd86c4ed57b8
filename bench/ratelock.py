"""`python -m bench.ratelock`: how many attempts a second ratelock's stores admit, count and log, beside the plain
counting transaction of the same database; both durable when they return, both asked for by coroutines.

The plain one is `UPDATE … SET n = n + 1` and COMMIT on one row, by as many connections as there are callers, each with
a thread; on SQLite, where one at a time may write, by one for all. The last column is the same without the coroutines:
in threads that do nothing else, and on a row for each caller, so that no one waits for another's lock.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import rich.table
from rich.console import Console
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    bindparam,
    create_engine,
    insert,
    make_url,
    update,
)

from jfe_cni.databases.engines import writer
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.store import Admitted, Attempt, OwnerAct, Store
from jfe_cni.ratelock.stores import open_store

CALLERS = (1, 8, 64)
DAY = 86_400_000_000
SMALL, LARGE = 100, 1_000_000
OWNER = OwnerAct("owner", "budget set", "")

_plain = Table("plain", MetaData(), Column("id", BigInteger, primary_key=True), Column("n", BigInteger, nullable=False))
_COUNT = update(_plain).where(_plain.c.id == bindparam("of")).values(n=_plain.c.n + 1)


@dataclass
class Seen:
    """Of each round: how many a second; and how long each took, seconds."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, times: list[float], took: float) -> None:
        self.rates.append(len(times) / took)
        self.times.extend(times)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def shown(self) -> list[str]:
        """A second; p50 and p99 in milliseconds."""
        ordered = sorted(self.times)
        return [f"{self.rate:.0f}", *(f"{ordered[int(part * (len(ordered) - 1))] * 1e3:.2f}" for part in (0.5, 0.99))]


async def asked(do: Callable[[int], Awaitable[object]], callers: int, seconds: float, seen: Seen) -> None:
    times: list[float] = []

    async def ask(number: int) -> None:
        while (before := time.perf_counter()) < until:
            await do(number)
            times.append(time.perf_counter() - before)

    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(ask(number) for number in range(callers)))
    seen.add(times, time.perf_counter() - began)


def admission(store: Store, secret: str) -> Callable[[int], Awaitable[None]]:
    async def admit(number: int) -> None:
        attempt = Attempt(f"caller-{number}", "release", secret, (Meter("all"), Meter("secret", secret)))
        verdict = await store.admit(attempt)
        assert isinstance(verdict, Admitted), verdict

    return admit


class Plain:
    """A connection and a thread for each caller, or on SQLite for all."""

    def __init__(self, url: str, callers: int) -> None:
        self._engine = _engine(url)
        self._threads = 1 if self._engine.dialect.name == "sqlite" else callers
        self._pool = ThreadPoolExecutor(self._threads)
        self._local = threading.local()

    async def count(self, _: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._count, 0)

    def count_in_threads(self, seconds: float, seen: Seen) -> None:
        times: list[float] = []
        ready = threading.Barrier(self._threads + 1)

        def run(number: int) -> None:
            self._count(number)
            ready.wait()
            until = time.perf_counter() + seconds
            while (before := time.perf_counter()) < until:
                self._count(number)
                times.append(time.perf_counter() - before)

        running = [self._pool.submit(run, number) for number in range(self._threads)]
        ready.wait()
        began = time.perf_counter()
        for each in running:
            each.result()
        seen.add(times, time.perf_counter() - began)

    def _count(self, number: int) -> None:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._engine.connect()
        with connection.begin():
            connection.execute(_COUNT, {"of": number})

    def close(self) -> None:
        self._pool.shutdown()
        del self._local
        self._engine.dispose()


def _engine(url: str) -> Engine:
    """As the store's own, with as many connections as are asked for."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return writer(parsed)
    return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=max(CALLERS))


async def measure(kind: str, url: str, rounds: int, seconds: float, console: Console) -> None:
    store = await open_store(url)
    await store.set_budget(Meter("secret", "many"), Budget((Limit(1_000_000_000, DAY),)), OWNER)
    engine = _engine(url)
    _plain.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(_plain), [{"id": number, "n": 0} for number in range(max(CALLERS))])
    engine.dispose()
    shown = rich.table.Table(title=f"{kind}: admitted, counted and logged; plain counting transactions")
    for heading in ("callers", "admits/s", "p50 ms", "p99 ms", "plain/s", "p50 ms", "p99 ms", "ratio", "threads/s"):
        shown.add_column(heading, justify="right")
    for callers in CALLERS:
        ours, theirs, threads = Seen(), Seen(), Seen()
        plain = Plain(url, callers)
        await asked(plain.count, callers, 0.1, Seen())
        for _ in range(rounds):
            await asked(admission(store, "many"), callers, seconds, ours)
            await asked(plain.count, callers, seconds, theirs)
            await asyncio.to_thread(plain.count_in_threads, seconds, threads)
        plain.close()
        ratio = statistics.median(one / other for one, other in zip(ours.rates, theirs.rates, strict=True))
        shown.add_row(str(callers), *ours.shown(), *theirs.shown(), f"{ratio:.2f}", f"{threads.rate:.0f}")
    console.print(shown)
    await compare_budgets(store, kind, rounds, seconds, console)
    await store.close()


async def compare_budgets(store: Store, kind: str, rounds: int, seconds: float, console: Console) -> None:
    """As many attempts as the budget has are behind it. The window is so short that none is refused; the attempt that
    was so many ago is looked at all the same."""
    seen = {count: {callers: Seen() for callers in CALLERS} for count in (SMALL, LARGE)}
    for count in seen:
        secret = str(count)
        await store.set_budget(Meter("secret", secret), Budget((Limit(1_000_000_000, 1),)), OWNER)
        admit = admission(store, secret)
        for _ in range(0, count, 1024):
            await asyncio.gather(*(admit(0) for _ in range(1024)))
        await store.set_budget(Meter("secret", secret), Budget((Limit(count, 1),)), OWNER)
    # In short turns: what else the machine does lasts longer than a pair of them.
    for number in range(10 * rounds):
        for callers in CALLERS:
            for count in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
                await asked(admission(store, str(count)), callers, seconds / 5, seen[count][callers])
    for callers in CALLERS:
        small, large = seen[SMALL][callers].rates, seen[LARGE][callers].rates
        cost = statistics.median(one / other for one, other in zip(small, large, strict=True)) - 1
        console.print(
            f"{kind}, {callers} callers: of a budget of {SMALL} {statistics.median(small):.0f}/s, "
            f"of {LARGE:,} {statistics.median(large):.0f}/s: costs {cost:+.0%}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.ratelock", description="Needs root: PostgreSQL runs as its own user.")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    words = parser.parse_args()
    console = Console(width=120)
    if words.only != "postgresql":
        # Not in /tmp, which is memory on some machines.
        with tempfile.TemporaryDirectory(prefix="jfe-bench-", dir="/var/tmp") as folder:
            url = f"sqlite:///{Path(folder, 'ratelock.db')}"
            asyncio.run(measure("SQLite", url, words.rounds, words.seconds, console))
    if words.only != "sqlite":
        with postgresql.server(durable=True, parent=Path("/var/tmp")) as server:
            asyncio.run(measure("PostgreSQL", server.database(), words.rounds, words.seconds, console))
    return 0


if __name__ == "__main__":
    sys.exit(main())
