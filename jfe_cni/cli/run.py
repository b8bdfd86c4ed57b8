"""`jfe run`: one command of this host under cover, everything else on the host untouched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from functools import partial
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import Enrolment, Mode, Target
from jfe_cni.agent.reports import StatusReport
from jfe_cni.cli.borrowed_agent import BorrowedAgent
from jfe_cni.cli.command import SIGNAL_BASE, Caller, Signals, run_command
from jfe_cni.cli.options import mode_option, socket_option
from jfe_cni.cli.show import patience
from jfe_cni.errors import ConflictError, HostError, RequestError
from jfe_cni.kernel.cgroups import CgroupTree
from jfe_cni.rules.model import check_workload


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@mode_option
@click.option("--name", help="What to call the workload (a-z, 0-9, -); default: the command's name and a number.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file of peers, for an agent that is started for this command; one that is there has its own.",
)
@click.option(
    "--authority-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder of an authority that peers share, for the same.",
)
@socket_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: tuple[str, ...],
    mode: Mode,
    name: str | None,
    directory: Path | None,
    authority_dir: Path | None,
    socket: Path,
) -> int:
    """Run COMMAND under cover, as the user who called sudo.

    It gets a cgroup and an identity of its own. What it leaves running ends with it. Its exit status is passed on.
    """
    if os.geteuid() != 0:
        raise HostError("jfe run needs root to load rules", remedy=f"sudo jfe run -- {' '.join(command)}")
    workload = name or default_name(command[0], os.getpid())
    check_workload(workload)
    agent = BorrowedAgent(socket.absolute(), directory=directory, authority=authority_dir)
    return asyncio.run(_run(command, mode, workload, agent))


def default_name(program: str, number: int) -> str:
    """`/usr/bin/Curl_7` → `curl-7-NUMBER`: at most 64 of the letters that a workload's name takes."""
    base = re.sub(r"[^a-z0-9]+", "-", Path(program).name.lower()).strip("-")[:50]
    return f"{base or 'command'}-{number}"


async def _run(command: tuple[str, ...], mode: Mode, workload: str, agent: BorrowedAgent) -> int:
    task = asyncio.current_task()
    assert task is not None
    signals = Signals(task.cancel)
    async with signals.taken():
        try:
            return await _run_covered(command, mode, workload, agent, signals)
        except asyncio.CancelledError:
            if signals.came is None:
                raise
            return SIGNAL_BASE + signals.came


async def _run_covered(
    command: tuple[str, ...], mode: Mode, workload: str, borrowed: BorrowedAgent, signals: Signals
) -> int:
    tree = CgroupTree.found()
    socket = borrowed.socket
    async with borrowed.borrowed(partial(_release_the_killed, tree, socket)) as status:
        cgroup = tree.create(f"jfe/{status.node}/run/{workload}")
        if cgroup.processes():
            raise ConflictError(f"a command runs already as {workload}", remedy="choose another --name")
        try:
            async with AgentClient(socket) as agent:
                async with patience(f"enrolling {workload}"):
                    await agent.enrol(Enrolment(Target("cgroup", str(cgroup.path)), mode, workload))
                try:
                    return await run_command(command, cgroup.procs, Caller.found(dict(os.environ)), signals)
                finally:
                    # First nothing runs any more, then it is released: the other way round it would run bare.
                    await asyncio.to_thread(cgroup.kill)
                    await agent.unenrol(workload)
        finally:
            await asyncio.to_thread(cgroup.remove)


async def _release_the_killed(tree: CgroupTree, socket: Path, status: StatusReport) -> None:
    """What a `jfe run` that was killed has left, once nothing runs in it any more. No other `jfe run` is under way."""
    folder = tree.path(f"jfe/{status.node}/run")
    async with AgentClient(socket) as agent:
        for path in [path for path in folder.glob("*") if path.is_dir()]:
            left = tree.create(str(path))
            if left.processes():
                continue
            with contextlib.suppress(RequestError):
                # Where its agent has ended, nothing of it is enrolled.
                await agent.unenrol(path.name)
            await asyncio.to_thread(left.remove)
