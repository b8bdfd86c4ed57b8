"""`jfe explain`: would a connection be encrypted, with whom, and if not, why not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.text import Text

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import ExplainReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import console, print_json


@click.command()
@click.argument("destination", metavar="ADDRESS[:PORT]")
@click.option("--workload", metavar="NAME", help="Only for one workload.")
@socket_option
@json_option
def explain(socket: Path, destination: str, workload: str | None, as_json: bool) -> None:
    """Tell what would happen to a connection to ADDRESS[:PORT], for each workload.

    An IPv6 address with a port goes in brackets: `[fd00::9]:5432`.
    """
    found = asyncio.run(_ask(socket, destination, workload))
    if as_json:
        print_json([report_json(each) for each in found])
        return
    shown = console()
    for each in found:
        shown.print(Text.assemble((each.workload, "bold"), f" → {each.destination}: ", _answer(each)), soft_wrap=True)
        shown.print(f"    {each.because}", soft_wrap=True)
        if each.entry:
            shown.print(f"    directory: {each.entry}", soft_wrap=True)
    if not found:
        shown.print("No workload is enrolled, so nothing is encrypted. Enrol one with `jfe enroll` or `jfe run`.")


async def _ask(socket: Path, destination: str, workload: str | None) -> list[ExplainReport]:
    async with AgentClient(socket) as agent:
        return await agent.explain(destination, workload)


def _answer(report: ExplainReport) -> tuple[str, str]:
    if report.encrypted:
        return f"encrypted, with {report.peer or 'any peer whose certificate names this address'}", "green"
    words = report.decision.replace("_", " ")
    return f"{words} ({report.reason})", "red" if report.decision == "refuse" else "yellow"
