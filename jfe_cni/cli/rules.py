"""`jfe rules`: the rulesets in force, as nft text, and whether the kernel still has them whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import RulesReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import print_json


@click.command()
@click.argument("workload", required=False)
@socket_option
@json_option
def rules(socket: Path, workload: str | None, as_json: bool) -> int:
    """Print every ruleset, or that of one WORKLOAD.

    Exit status 1 if the kernel has one of them no longer as it should be.
    """
    found = asyncio.run(_ask(socket, workload))
    if as_json:
        print_json([report_json(each) for each in found])
    elif not found:
        click.echo("# No rulesets: no workload is enrolled.")
    else:
        click.echo("\n".join(_text(each) for each in found))
    return 0 if all(each.whole for each in found) else 1


async def _ask(socket: Path, workload: str | None) -> list[RulesReport]:
    async with AgentClient(socket) as agent:
        return await agent.rules(workload)


def _text(report: RulesReport) -> str:
    """The ruleset, headed by comments, so that the whole output is still nft text."""
    head = [f"# {report.name}: {', '.join(report.workloads)}"]
    head += ["# whole" if report.whole else "# NOT whole in the kernel:"]
    head += [f"#   {line}" for line in report.missing]
    return "\n".join([*head, report.wanted.rstrip("\n"), ""])
