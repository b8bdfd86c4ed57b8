"""`jfe unenroll`: a workload is released, and the kernel is as it was before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient
from jfe_cni.cli.options import socket_option
from jfe_cni.cli.show import patience
from jfe_cni.errors import RequestError


@click.command()
@click.argument("workloads", metavar="NAME…", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every workload of this agent.")
@socket_option
def unenroll(socket: Path, workloads: tuple[str, ...], every: bool) -> None:
    """Release workloads by NAME: rules, routes and settings go; connections under cover are reset."""
    if every == bool(workloads):
        raise click.UsageError("Give the names of workloads, or --all.")
    asyncio.run(_release(socket, workloads))


async def _release(socket: Path, workloads: tuple[str, ...]) -> None:
    async with AgentClient(socket) as agent:
        names = workloads or tuple(each.id for each in await agent.workloads())
        unknown: list[str] = []
        for name in names:
            try:
                async with patience(f"releasing {name}"):
                    await agent.unenrol(name)
            except RequestError as error:
                # The others are released all the same; those that could not be are named at the end.
                unknown.append(f"{name} ({error.message})")
            else:
                click.echo(f"{name} is released")
    if unknown:
        raise RequestError(f"not released: {', '.join(unknown)}", remedy="see `jfe status` for the names")
