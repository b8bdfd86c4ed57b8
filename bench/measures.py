"""What is measured: each measure runs every way once a round, so that what else the machine does meets all alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.cover import COVERED, RELAY
from bench.haproxy import FULL, RESUMED
from bench.machine import cpu_seconds, memory_megabytes, one_cpu, pinned
from bench.stage import PLAIN, Stage
from bench.way import Way

BULK_BYTES = 2 << 30
CONNECTION_SECONDS = 3.0
UNDER_BULK_SECONDS = 2.0
ROUND_TRIPS = 20_000
IDLE_CONNECTIONS = 1000


@dataclass
class Round:
    """`ratios`: what counts, by its key in the results. `seen`: (way, what and unit) → value, for the second table."""

    ratios: dict[str, float] = field(default_factory=dict)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """`ways`: those that it needs, in the order of the first round. `run` gets them in the order of its round."""

    name: str
    keys: tuple[str, ...]
    ways: tuple[str, ...]
    run: Callable[[Stage, list[Way]], Awaitable[Round]]


async def bulk(_: Stage, ways: list[Way]) -> Round:
    found = Round()
    rate: dict[str, float] = {}
    cost: dict[str, float] = {}
    for way in ways:
        before = cpu_seconds(way.proxies())
        told = await way.load("bulk", "--bytes", str(BULK_BYTES))
        # The load's own warm-up passes the proxies too.
        cost[way.name] = (cpu_seconds(way.proxies()) - before) / ((told["bytes"] + told["warm_bytes"]) / 1e9)
        rate[way.name] = told["megabytes_per_second"]
        found.seen[way.name, "bulk MB/s"] = rate[way.name]
        if way.name != PLAIN:
            found.seen[way.name, "CPU s/GB"] = cost[way.name]
    found.ratios["bulk_vs_haproxy"] = rate[COVERED.name] / rate[FULL.name]
    found.ratios["bulk_vs_plain_relay"] = rate[COVERED.name] / rate[RELAY.name]
    found.ratios["cpu_per_gb_vs_haproxy"] = cost[COVERED.name] / cost[FULL.name]
    return found


async def round_trip(_: Stage, ways: list[Way]) -> Round:
    """Everything on one CPU: else the figure tells where the scheduler put things."""
    found = Round()
    cpu = one_cpu()
    for way in ways:
        with pinned(way.processes(), cpu):
            told = await way.load("ping-pong", "--trips", str(ROUND_TRIPS), cpu=cpu)
        found.seen[way.name, "round trip µs"] = told["p50_microseconds"]
    found.ratios["round_trip_vs_haproxy"] = _ratio(found, "round trip µs", FULL.name)
    return found


async def handshakes(_: Stage, ways: list[Way]) -> Round:
    found = Round()
    for way in ways:
        told = await way.load("connections", "--seconds", str(CONNECTION_SECONDS))
        found.seen[way.name, "connections/s"] = told["connections_per_second"]
        if told["failed"]:
            found.seen[way.name, "failed a round"] = told["failed"]
    found.ratios["handshakes_vs_haproxy"] = _ratio(found, "connections/s", FULL.name)
    found.ratios["handshakes_vs_haproxy_resumed"] = _ratio(found, "connections/s", RESUMED.name)
    return found


async def round_trip_under_bulk(_: Stage, ways: list[Way]) -> Round:
    found = Round()
    for way in ways:
        told = await way.load("ping-pong-under-bulk", "--seconds", str(UNDER_BULK_SECONDS))
        found.seen[way.name, "under bulk µs"] = told["p50_microseconds"]
    found.ratios["round_trip_under_bulk_vs_haproxy"] = _ratio(found, "under bulk µs", FULL.name)
    return found


async def idle(stage: Stage, _: list[Way]) -> Round:
    """Pairs that have done nothing before: memory that an earlier load left behind would hide what is needed now."""
    found = Round()
    for made in (stage.covered(COVERED), stage.haproxy(FULL)):
        async with made as way:
            await way.load("ping-pong", "--trips", "10")
            empty = memory_megabytes(way.proxies())
            async with way.idle(IDLE_CONNECTIONS):
                full = memory_megabytes(way.proxies())
        found.seen[way.name, "MB per 1,000 idle"] = full - empty
        found.seen[way.name, "MB in all then"] = full
    found.ratios["idle_mb_per_1000"] = found.seen[COVERED.name, "MB per 1,000 idle"]
    return found


def _ratio(found: Round, what: str, peer: str) -> float:
    return found.seen[COVERED.name, what] / found.seen[peer, what]


MEASURES = (
    Measure(
        "bulk",
        ("bulk_vs_haproxy", "bulk_vs_plain_relay", "cpu_per_gb_vs_haproxy"),
        (PLAIN, COVERED.name, RELAY.name, FULL.name),
        bulk,
    ),
    Measure("round_trip", ("round_trip_vs_haproxy",), (PLAIN, COVERED.name, RELAY.name, FULL.name), round_trip),
    Measure(
        "handshakes",
        ("handshakes_vs_haproxy", "handshakes_vs_haproxy_resumed"),
        (PLAIN, COVERED.name, RELAY.name, FULL.name, RESUMED.name),
        handshakes,
    ),
    Measure("idle", ("idle_mb_per_1000",), (), idle),
    Measure(
        "round_trip_under_bulk",
        ("round_trip_under_bulk_vs_haproxy",),
        (COVERED.name, RELAY.name, FULL.name),
        round_trip_under_bulk,
    ),
)
