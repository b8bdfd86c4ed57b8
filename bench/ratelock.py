"""`python -m bench.ratelock [--seconds N] [--rounds N]`: how many attempts a second ratelock's stores admit, count and log,
beside the plain counting transaction of the same database; both durable when they return.

The plain one is `UPDATE … SET n = n + 1` and COMMIT by as many threads as there are callers, each on a connection of its
own; on SQLite, where one at a time may write, by one thread for all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown
from sqlalchemy import BigInteger, Column, MetaData, Table, insert, make_url, update

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.store import Admitted, Attempt, OwnerAct, Store
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.stores.engines import writer
from tests.ratelock import postgresql

CALLERS = (1, 8, 64)
DAY = 86_400_000_000
SMALL, LARGE = 100, 1_000_000

_plain = Table("plain", MetaData(), Column("id", BigInteger, primary_key=True), Column("n", BigInteger, nullable=False))


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

    def milliseconds(self, part: float) -> float:
        return sorted(self.times)[int(part * (len(self.times) - 1))] * 1e3


async def admits(store: Store, callers: int, seconds: float, secret: str, seen: Seen) -> None:
    times: list[float] = []

    async def ask(number: int) -> None:
        attempt = Attempt(f"caller-{number}", "release", secret, (Meter("all"), Meter("secret", secret)))
        while (before := time.perf_counter()) < until:
            verdict = await store.admit(attempt)
            assert isinstance(verdict, Admitted), verdict
            times.append(time.perf_counter() - before)

    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(ask(number) for number in range(callers)))
    seen.add(times, time.perf_counter() - began)


def plain_transactions(url: str, callers: int, seconds: float, seen: Seen, *, one_row: bool) -> None:
    parsed = make_url(url)
    threads = 1 if parsed.get_backend_name() == "sqlite" else callers
    times: list[float] = []
    ready = threading.Barrier(threads + 1)

    def count(number: int) -> None:
        engine = writer(parsed)
        statement = update(_plain).where(_plain.c.id == number).values(n=_plain.c.n + 1)
        with engine.connect() as connection:
            ready.wait()
            until = time.perf_counter() + seconds
            while (before := time.perf_counter()) < until:
                with connection.begin():
                    connection.execute(statement)
                times.append(time.perf_counter() - before)
        engine.dispose()

    running = [threading.Thread(target=count, args=(0 if one_row else number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in running:
        thread.join()
    seen.add(times, time.perf_counter() - began)


async def fill(store: Store, secret: str, count: int) -> None:
    """So many attempts in the window, that each further one looks at the one so many ago."""
    attempt = Attempt("filler", "release", secret, (Meter("secret", secret),))
    for _ in range(0, count, 1024):
        await asyncio.gather(*(store.admit(attempt) for _ in range(1024)))


async def measure(kind: str, url: str, rounds: int, seconds: float, console: Console) -> None:
    store = await open_store(url)
    owner = OwnerAct("owner", "budget set", "")
    for secret in ("many", "large"):
        await store.set_budget(Meter("secret", secret), Budget((Limit(1_000_000_000, DAY),)), owner)
    engine = writer(make_url(url))
    _plain.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(_plain), [{"id": number, "n": 0} for number in range(max(CALLERS))])
    engine.dispose()
    shown = Shown(title=f"{kind}: admitted, counted and logged; and plain counting transactions")
    for heading in ("callers", "admits/s", "p50 ms", "p99 ms", "plain/s", "p50 ms", "p99 ms", "ratio", "own rows/s"):
        shown.add_column(heading, justify="right")
    for callers in CALLERS:
        ours, plain, apart = Seen(), Seen(), Seen()
        for _ in range(rounds):
            await admits(store, callers, seconds, "many", ours)
            await asyncio.to_thread(plain_transactions, url, callers, seconds, plain, one_row=True)
            await asyncio.to_thread(plain_transactions, url, callers, seconds, apart, one_row=False)
        shown.add_row(
            str(callers),
            *(f"{each:.{digits}f}" for seen in (ours, plain) for each, digits in (
                (seen.rate, 0), (seen.milliseconds(0.5), 2), (seen.milliseconds(0.99), 2),
            )),
            f"{ours.rate / plain.rate:.2f}",
            f"{apart.rate:.0f}",
        )
    console.print(shown)
    await compare_budgets(store, kind, rounds, seconds, console)
    await store.close()


async def compare_budgets(store: Store, kind: str, rounds: int, seconds: float, console: Console) -> None:
    """As many attempts as the budget has are behind it, and have just left the window."""
    owner = OwnerAct("owner", "budget set", "")
    seen = {}
    for count in (SMALL, LARGE):
        await store.set_budget(Meter("secret", str(count)), Budget((Limit(1_000_000_000, 1),)), owner)
        await fill(store, str(count), count)
        # A microsecond: nothing is refused, and the attempt that is `count` ago is looked at each time.
        await store.set_budget(Meter("secret", str(count)), Budget((Limit(count, 1),)), owner)
        seen[count] = {callers: Seen() for callers in CALLERS}
    for number in range(rounds):
        for callers in CALLERS:
            for count in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
                await admits(store, callers, seconds, str(count), seen[count][callers])
    for callers in CALLERS:
        small, large = seen[SMALL][callers].rate, seen[LARGE][callers].rate
        console.print(
            f"{kind}, {callers} callers: budget of {SMALL}: {small:.0f}/s, of {LARGE:,}: {large:.0f}/s, "
            f"costs {small / large - 1:+.0%}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.ratelock", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    asked = parser.parse_args()
    console = Console()
    if asked.only != "postgresql":
        # Not in /tmp as such, which is memory on some machines.
        with tempfile.TemporaryDirectory(prefix="jfe-bench-", dir="/var/tmp") as folder:
            url = f"sqlite:///{Path(folder, 'ratelock.db')}"
            asyncio.run(measure("SQLite", url, asked.rounds, asked.seconds, console))
    if asked.only != "sqlite":
        with postgresql.server(durable=True) as server:
            asyncio.run(measure("PostgreSQL", server.database(), asked.rounds, asked.seconds, console))
    return 0


if __name__ == "__main__":
    sys.exit(main())
