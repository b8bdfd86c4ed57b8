"""From rounds to results: medians, what is to be reached, two tables and one file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.machine import Circumstances
from bench.measures import Round

RESULTS = Path(__file__).resolve().parent / "results.json"


@dataclass(frozen=True)
class Target:
    """`at_least`: the value is to be at least `value`; else at most."""

    value: float
    at_least: bool

    def met(self, median: float) -> bool:
        return median >= self.value if self.at_least else median <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


def targets(cpu_flags: Sequence[str]) -> dict[str, Target]:
    """What this project is to reach, by key; haproxy's AES does not use VAES, ours does."""
    return {
        "bulk_vs_haproxy": Target(2.6 if "vaes" in cpu_flags else 1.6, at_least=True),
        "bulk_vs_plain_relay": Target(0.8, at_least=True),
        "round_trip_vs_haproxy": Target(0.9, at_least=False),
        "handshakes_vs_haproxy": Target(3.5, at_least=True),
        "handshakes_vs_haproxy_resumed": Target(2.2, at_least=True),
        "cpu_per_gb_vs_haproxy": Target(0.38, at_least=False),
        "idle_mb_per_1000": Target(8.0, at_least=False),
        "round_trip_under_bulk_vs_haproxy": Target(0.1, at_least=False),
        "cni_add_ms": Target(10, at_least=False),
        "cni_add_50_ms": Target(15, at_least=False),
        "node_mb_250": Target(120, at_least=False),
        "upgrader_kb_per_pod": Target(60, at_least=False),
        "takeover_250_s": Target(3, at_least=False),
        "flows_v5_vs_goflow2": Target(2, at_least=True),
        "flows_v9_vs_goflow2": Target(2, at_least=True),
        "flows_ipfix_vs_goflow2": Target(2, at_least=True),
        "flows_sflow_vs_goflow2": Target(0.5, at_least=True),
        "flows_memory_10m_vs_1m": Target(1.1, at_least=False),
    }


@dataclass(frozen=True)
class Result:
    median: float
    minimum: float
    maximum: float
    rounds: int
    target: float
    met: bool


def summed_up(rounds: Sequence[Round], cpu_flags: Sequence[str]) -> dict[str, Result]:
    values: dict[str, list[float]] = {}
    for each in rounds:
        for key, value in each.ratios.items():
            values.setdefault(key, []).append(value)
    aims = targets(cpu_flags)
    return {
        key: Result(
            median=statistics.median(found),
            minimum=min(found),
            maximum=max(found),
            rounds=len(found),
            target=aims[key].value,
            met=aims[key].met(statistics.median(found)),
        )
        for key, found in values.items()
    }


def seen(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Way → what → median."""
    values: dict[str, dict[str, list[float]]] = {}
    for each in rounds:
        for (way, what), value in each.seen.items():
            values.setdefault(way, {}).setdefault(what, []).append(value)
    return {way: {what: statistics.median(found) for what, found in figures.items()} for way, figures in values.items()}


def write(results: dict[str, Result], figures: dict[str, dict[str, float]], circumstances: Circumstances) -> None:
    whole: dict[str, object] = {key: asdict(result) for key, result in results.items()}
    whole |= asdict(circumstances) | {"figures": figures}
    RESULTS.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


def show(
    console: Console, results: dict[str, Result], figures: dict[str, dict[str, float]], circumstances: Circumstances
) -> None:
    aims = targets(circumstances.cpu_flags)
    table = Table(title="medians of ratios within a round", box=box.SIMPLE)
    table.add_column("", no_wrap=True)
    for heading in ("median", "min", "max", "to reach"):
        table.add_column(heading, justify="right")
    table.add_column("reached")
    for key, result in results.items():
        numbers = [f"{number:.3g}" for number in (result.median, result.minimum, result.maximum)]
        reached = "[green]yes[/green]" if result.met else "[bold red]no[/bold red]"
        table.add_row(key, *numbers, str(aims[key]), reached)
    console.print(table)
    table = Table(title="medians", box=box.SIMPLE)
    table.add_column("", no_wrap=True)
    for way in figures:
        table.add_column(way, justify="right")
    for what in dict.fromkeys(what for each in figures.values() for what in each):
        table.add_row(what, *(_number(each[what]) if what in each else "" for each in figures.values()))
    console.print(table)
    console.print(f"CPU: {', '.join(circumstances.cpu_flags)}; TCP: {circumstances.congestion_control}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
