"""Our pair as it is really used: an agent and an upgrader of one worker on each host, rules, sandbox, identities."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.way import SERVER_PORT, Way
from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import Enrolment, Mode, Target
from jfe_cni.demo.hosts import Host
from jfe_cni.demo.programs import Program, ProgramEnded, Programs
from jfe_cni.errors import AgentError

TRUST_DOMAIN = "jfe.bench"
START_SECONDS = 30.0
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


@dataclass(frozen=True)
class Variant:
    """Without peers in the directory both ends pass through: the same rules, sockets and relay, and no TLS."""

    name: str
    mode: Mode
    peers_known: bool
    decision: str


COVERED = Variant("jfe", "strict", peers_known=True, decision="upgrade")
RELAY = Variant("jfe, relay without TLS", "permissive", peers_known=False, decision="pass_through")


async def cover(
    variant: Variant, programs: Programs, client: Host, server: Host, application: Program, folder: Path
) -> Way:
    """Both hosts under cover; agents and upgraders end with `programs`."""
    hosts = (client, server)
    for host, peer in zip(hosts, reversed(hosts), strict=True):
        await _agent(variant, programs, host, peer, folder)
        async with AgentClient(host.socket) as agent:
            await agent.enrol(
                Enrolment(Target("netns", str(host.namespace)), variant.mode, name=host.name, identity=_identity(host))
            )
    dial = f"{server.address}:{SERVER_PORT}"
    way = Way(variant.name, client, application, programs, dial, lambda: [p for host in hosts for p in upgrader(host)])
    await _check(variant, way)
    return way


def upgrader(host: Host) -> list[int]:
    """Broker and workers: all that run in the upgrader's cgroup of this node."""
    for root in CGROUPS:
        members = root / "jfe" / host.name / "upgrader" / "cgroup.procs"
        if members.exists():
            return [int(pid) for pid in members.read_text().split()]
    raise ProgramEnded(f"the upgrader of {host.name} has no cgroup", remedy="run `jfe doctor`")


def _identity(host: Host) -> str:
    return f"spiffe://{TRUST_DOMAIN}/host/{host.name}/namespace/{host.name}"


async def _agent(variant: Variant, programs: Programs, host: Host, peer: Host, folder: Path) -> None:
    directory = host.folder / "directory.json"
    peers = [{"network": f"{peer.address}/32", "identity": _identity(peer)}] if variant.peers_known else []
    directory.write_text(json.dumps({"entries": peers}))
    agent = await programs.start(
        host,
        f"agent of {host.name}",
        *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--on-exit", "remove", "--workers", "1"),
        *("--state-dir", str(host.folder), "--socket", str(host.socket), "--node", host.name),
        *("--trust-domain", TRUST_DOMAIN, "--authority-dir", str(folder / "authority")),
        *("--directory", str(directory)),
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _ready(host):
                agent.check_alive()
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ProgramEnded(f"{agent.name} has not started: {agent.last_words()}", remedy="run `jfe doctor`") from error


async def _ready(host: Host) -> bool:
    with contextlib.suppress(AgentError):
        async with AgentClient(host.socket) as agent:
            return (await agent.status()).upgrader_connected
    return False


async def _check(variant: Variant, way: Way) -> None:
    """What is measured must be what its name says."""
    decided: list[str] = []

    async def follow() -> None:
        async with AgentClient(way.client.socket) as agent:
            async for report in agent.follow_connections():
                if report.decision is not None:
                    decided.append(report.decision)
                    return

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(START_SECONDS):
            while not following.done():
                await way.load("ping-pong", "--trips", "10")
                await asyncio.wait([following], timeout=0.2)
        await following
    finally:
        following.cancel()
    if decided != [variant.decision]:
        raise ProgramEnded(f"{variant.name}: the upgrader decided {decided}, not {variant.decision}")
