"""`jfe demo`: two throw-away hosts, the same unmodified programs bare and under cover, side by side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from jfe_cni.cli.options import json_option
from jfe_cni.cli.show import console, print_json, table
from jfe_cni.demo.report import Findings
from jfe_cni.demo.stage import STEPS, Script, new_folder, new_name, perform, programs_missing
from jfe_cni.demo.sweep import sweep, sweep_the_dead
from jfe_cni.demo.traces import traces
from jfe_cni.errors import HostError, JfeError


@click.command()
@json_option
@click.option(
    "--pcap",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what was captured on the link as DIR/before.pcap and DIR/after.pcap.",
    metavar="DIR",
)
def demo(pcap: Path | None, as_json: bool) -> int:
    """Show the main job on two throw-away hosts: a web server and curl, bare and under cover.

    Nothing of it is left behind. Exit status 1 if a promise did not hold.
    """
    if os.geteuid() != 0:
        raise HostError("the demonstration needs root for namespaces and rules", remedy="sudo jfe demo, or make demo")
    missing = programs_missing()
    if missing:
        raise HostError(f"not found on PATH: {', '.join(missing)}", remedy="make demo installs what is missing")
    findings, left_behind = asyncio.run(_play(pcap))
    if as_json:
        print_json(findings.as_json(left_behind))
    else:
        _print(findings, left_behind, pcap)
    return 0 if all(findings.promises.values()) and not left_behind else 1


async def _play(pcap: Path | None) -> tuple[Findings, list[str]]:
    """Raises click.Abort when interrupted, JfeError where a step failed; in each case nothing is left."""
    interrupted = _cancel_by_signal()
    await sweep_the_dead()
    name = new_name()
    folder = new_folder(name)
    # The folder is new on purpose: it is named as left behind unless it goes.
    before = await traces(name, ())
    trouble: JfeError | None = None
    findings: Findings | None = None
    try:
        with _progress() as step:
            if pcap is not None:
                await asyncio.to_thread(_make_for_caller, pcap)
            findings = await perform(Script(name, folder, pcap or folder, step))
            step()
    except JfeError as error:
        trouble = error
    except asyncio.CancelledError:
        click.echo("jfe: interrupted; taking everything away …", err=True)
    finally:
        await sweep(name)
        if pcap is not None:
            await asyncio.to_thread(_give_to_caller, pcap)
    left_behind = (await traces(name, (folder,))).since(before)
    if interrupted or trouble is not None or findings is None:
        for thing in left_behind:
            click.echo(f"jfe: left behind: {thing}", err=True)
    if trouble is not None:
        raise trouble
    if findings is None:
        raise click.Abort
    return findings, left_behind


def _cancel_by_signal() -> list[signal.Signals]:
    """The first SIGINT, SIGTERM or SIGHUP cancels the current task; more of them do nothing: it is being tidied up."""
    came: list[signal.Signals] = []
    task = asyncio.current_task()
    assert task is not None

    def take(number: signal.Signals) -> None:
        if not came:
            task.cancel()
        came.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, take, number)
    return came


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[], None]]:
    """A bar over STEPS on standard error; lines, where that is no terminal."""
    shown = console(stderr=True)
    names = iter(STEPS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task(STEPS[0], total=len(STEPS), completed=-1)

        def step() -> None:
            name = next(names, "")
            progress.update(task, description=name, advance=1)
            if name and not shown.is_terminal:
                shown.print(f"{name} …")

        yield step


def _print(findings: Findings, left_behind: list[str], pcap: Path | None) -> None:
    shown = console()
    shown.print(table("", ("", "bare", "under cover"), findings.rows()))
    shown.print()
    for promise, held in findings.promises.items():
        shown.print(Text.assemble(("✔ ", "green") if held else ("✘ ", "red"), promise))
    nothing_left = not left_behind
    shown.print(Text.assemble(("✔ ", "green") if nothing_left else ("✘ ", "red"), "nothing was left behind"))
    for thing in left_behind:
        shown.print(f"    {thing}")
    if pcap is not None:
        shown.print(f"\nSee for yourself: tshark -r {pcap}/before.pcap; tshark -r {pcap}/after.pcap")


def _make_for_caller(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _give_to_caller(folder: Path) -> None:
    """What sudo's caller asked for is the caller's, not root's."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if uid is None or gid is None or not (uid.isdigit() and gid.isdigit()):
        return
    for name in ("before.pcap", "after.pcap"):
        if (folder / name).is_file():
            os.chown(folder / name, int(uid), int(gid), follow_symlinks=False)
