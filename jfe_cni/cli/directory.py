"""`jfe directory`: which addresses are enrolled, with which identity, and where that is known from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import DirectoryReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import console, print_json, print_table


@click.command()
@socket_option
@json_option
def directory(socket: Path, as_json: bool) -> None:
    """List which addresses and ports are known to be under cover."""
    found = asyncio.run(_ask(socket))
    if as_json:
        print_json([report_json(each) for each in found])
    elif found:
        print_table("", ("network", "port", "identity", "cover", "excluded ports", "source"), [_row(e) for e in found])
    else:
        console().print("The directory is empty. Name peers in a file: `jfe agent --directory FILE`.")


async def _ask(socket: Path) -> list[DirectoryReport]:
    async with AgentClient(socket) as agent:
        return await agent.directory()


def _row(entry: DirectoryReport) -> tuple[str, ...]:
    return (
        entry.network,
        "all" if entry.port is None else str(entry.port),
        entry.identity or "any whose certificate names the address",
        entry.cover,
        ", ".join(map(str, entry.excluded_ports)) or "–",
        entry.source,
    )
