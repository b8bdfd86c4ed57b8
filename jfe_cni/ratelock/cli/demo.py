"""`ratelock demo`: two replicas on one PostgreSQL, one of them killed under load."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from jfe_cni.ratelock.demo.findings import Findings
    from jfe_cni.ratelock.demo.stage import Stage


@click.command()
@click.option("--stay", is_flag=True, help="Leave the two replicas running until an interrupt, and say where they are.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def demo(stay: bool, as_json: bool) -> int:
    """Show two replicas on one PostgreSQL, started for this and gone afterwards: callers ask both for a record as often
    as they can, one replica is killed and started again, and what the callers were told is held against the budget.

    Needs PostgreSQL's server programs. Exit status 1 if a promise did not hold.
    """
    if stay:
        asyncio.run(_stay())
        return 0
    try:
        findings = asyncio.run(_perform(quiet=as_json))
    except asyncio.CancelledError:
        raise click.Abort from None
    if as_json:
        click.echo(json.dumps(findings.as_json()))
    else:
        _print(findings)
    return 0 if all(findings.promises.values()) else 1


async def _perform(*, quiet: bool) -> Findings:
    from jfe_cni.ratelock.demo.stage import SECONDS, perform, stage

    task = asyncio.current_task()
    assert task is not None
    # As SIGINT: what was started is taken away first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with stage() as made:
        if not quiet:
            click.echo(f"two replicas on one PostgreSQL; callers ask for {SECONDS:g} s, and replica b is killed …")
        return await perform(made)


async def _stay() -> None:
    from jfe_cni.ratelock.demo.stage import stage

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with stage(lambda name, line: click.echo(f"{name} | {line}", err=True)) as made:
        _say_where(made)
        await ended.wait()


def _say_where(made: Stage) -> None:
    for replica in made.replicas:
        click.echo(f"replica {replica.name} {replica.url}")
    click.echo(f"owner     {made.owner}\ncaller    {made.caller}")
    click.echo(f"try it    RATELOCK_URL={made.replicas[0].url} RATELOCK_TOKEN={made.owner} ratelock add demo/alice")


def _print(findings: Findings) -> None:
    found = findings.as_json()
    by = ", ".join(f"{count} by replica {name}" for name, count in sorted(found["answered_by"].items()))
    click.echo(f"answered    {found['asked']} ({by})")
    click.echo(f"released    {found['released']}, of them {found['released_while_one_was_dead']} while b was dead")
    click.echo(
        f"at most     {found['most_within_a_window']} within {findings.window:g} s; the budget is {findings.count}"
    )
    click.echo(f"in the log  {found['releases_in_log']}\n")
    for promise, held in findings.promises.items():
        click.echo(f"{'yes' if held else 'NO':4}{promise}")
