"""`python -m bench [--only NAME …] [--rounds N] [--congestion NAME]`: see `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import results
from bench.flow_measures import FLOW_MEASURES
from bench.machine import Circumstances, congestion_control, cpu_flags
from bench.measures import MEASURES, Measure, Round
from bench.pods import PODS_MEASURES
from bench.stage import Stage
from bench.way import LOAD
from jfe_cni.errors import HostError, JfeError

ROUNDS = 5
# Load average (1 minute) above which others take a part of the CPU that shows.
QUIET = 0.5


def main(words: Sequence[str] | None = None) -> int:
    """0 also where a target is missed: the table and the file tell."""
    measures = (*MEASURES, *PODS_MEASURES, *FLOW_MEASURES)
    names = [name for measure in measures for name in (measure.name, *measure.keys)]
    parser = argparse.ArgumentParser(prog="bench", description="Measures in network namespaces of its own; needs root.")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--congestion", metavar="NAME", help="TCP's congestion control (default: this host's)")
    asked = parser.parse_args(words)
    if asked.rounds < 1:
        parser.error("--rounds takes at least 1")
    wanted = [m for m in measures if asked.only is None or {m.name, *m.keys} & set(asked.only)]
    console = Console()
    load = os.getloadavg()[0]
    if load > QUIET:
        console.print(f"[yellow]This machine is busy (load {load:.1f}): the figures will tell of that, too.[/yellow]")
    try:
        rounds = asyncio.run(measure(wanted, asked.rounds, asked.congestion, console))
    except JfeError as error:
        console.print(f"[bold red]bench:[/bold red] {error}", highlight=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("bench: stopped, and everything it had made is gone")
        return 130
    circumstances = Circumstances(tuple(cpu_flags()), asked.congestion or congestion_control(), load)
    summary, figures = results.summed_up(rounds, circumstances.cpu_flags), results.seen(rounds)
    results.show(console, summary, figures, circumstances)
    results.write(summary, figures, circumstances)
    console.print(f"Written to {results.RESULTS}")
    return 0


async def measure(wanted: Sequence[Measure], rounds: int, congestion: str | None, console: Console) -> list[Round]:
    if not LOAD.exists():
        raise HostError("jfe-load is not built", remedy="run `cargo build --release -p jfe-load`, or `make bench`")
    this = asyncio.current_task()
    assert this is not None
    # As Ctrl-C: what was made is taken away first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    found: list[Round] = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="jfe-bench-", dir="/tmp") as folder,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("setting up", total=rounds * len(wanted))
        async with Stage(Path(folder), congestion) as stage:
            ways = await stage.ways(frozenset(name for each in wanted for name in each.ways))
            for number in range(rounds):
                for each in wanted:
                    progress.update(task, description=f"round {number + 1}: {each.name}")
                    # Nobody is always the one who runs after a quiet or a busy neighbour.
                    turn = number % max(len(each.ways), 1)
                    order = each.ways[turn:] + each.ways[:turn]
                    found.append(await each.run(stage, [ways[name] for name in order]))
                    progress.advance(task)
            progress.update(task, description="taking down")
    return found


if __name__ == "__main__":
    sys.exit(main())
