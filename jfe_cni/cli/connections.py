"""`jfe connections`: what is open now, or each connection as it comes, is decided and ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
from rich.text import Text

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import amount, console, print_json, print_table

COLUMNS = ("workload", "direction", "from", "to", "decision", "reason", "peer", "TLS", "sent", "received")
STYLES = {"upgrade": "green", "pass_through": "yellow", "refuse": "red"}


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on: one line for each that opens, is decided or ends.")
@click.option("--workload", metavar="NAME", help="Only those of one workload.")
@socket_option
@json_option
def connections(socket: Path, workload: str | None, follow: bool, as_json: bool) -> None:
    """List the connections of every workload, and what was decided for each.

    With --follow, --json prints one object a line.
    """
    asyncio.run(_follow(socket, workload, as_json) if follow else _list(socket, workload, as_json))


async def _list(socket: Path, workload: str | None, as_json: bool) -> None:
    async with AgentClient(socket) as agent:
        found = [each for each in await agent.connections() if workload in (None, each.workload)]
    if as_json:
        print_json([report_json(each) for each in found])
    elif found:
        print_table("", COLUMNS, [row(each) for each in found])
    else:
        console().print("No connections. `jfe connections --follow` waits for them.")


async def _follow(socket: Path, workload: str | None, as_json: bool) -> None:
    shown = console()
    async with AgentClient(socket) as agent:
        async for each in agent.follow_connections():
            if workload not in (None, each.workload):
                continue
            if as_json:
                click.echo(json.dumps(report_json(each)))
            else:
                shown.print(_line(each), soft_wrap=True)


def row(report: ConnectionReport) -> tuple[str | Text, ...]:
    decision = report.decision or "undecided"
    return (
        report.workload,
        report.direction,
        report.source,
        report.destination,
        Text(decision.replace("_", " "), style=STYLES.get(decision, "")),
        report.reason or "–",
        report.peer or "–",
        " ".join(filter(None, (report.tls_version, report.cipher, report.key_exchange))) or "–",
        amount(report.bytes_sent),
        amount(report.bytes_received),
    )


def _line(report: ConnectionReport) -> Text:
    """One connection on one line, the same order of words as the table."""
    workload, direction, source, destination, decision, reason, peer, tls, sent, received = row(report)
    return Text.assemble(
        f"{report.phase:8}{workload} {direction} {source} → {destination} ",
        decision,
        f" {reason} peer {peer} {tls} sent {sent} received {received}",
    )
