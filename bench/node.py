"""A node with pods as container runtimes make them: a namespace each, joined by the bridge plugin, then by ours.

The runtime is cnitool, which is libcni and nothing else: what it takes itself it takes with us and without."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.cover import CGROUPS, START_SECONDS, TRUST_DOMAIN
from bench.machine import memory_megabytes
from jfe_cni.agent import binaries
from jfe_cni.agent.client import AgentClient
from jfe_cni.demo.hosts import NAMESPACES, Host, ip
from jfe_cni.demo.programs import Program, ProgramEnded, Programs
from jfe_cni.errors import HostError

# Pods have the addresses that the plugin gives them; the node itself is called by nobody.
_NOWHERE = ipaddress.IPv4Address("198.18.64.1")
REFERENCE_PLUGINS = Path(__file__).resolve().parent.parent / "target" / "go" / "bin"
VERSION = "1.0.0"
# RFC 2544 set 198.18.0.0/15 apart for tests between devices.
SUBNET = "198.18.64.0/18"


class Node:
    """`async with`: pods, agent and upgrader are gone at its end."""

    def __init__(self, host: Host, programs: Programs) -> None:
        self._host = host
        self._programs = programs
        self._numbers = itertools.count()
        self._agent: Program | None = None
        self._pods: list[str] = []
        # Files of the node's own: libcni keeps records in /var/lib/cni.
        self._files: Program | None = None

    async def start_agent(self) -> float:
        """Seconds until it is there and all that was covered before is covered again."""
        state = self._host.folder / "state"
        before = time.perf_counter()
        self._agent = await self._programs.start(
            self._host,
            f"agent {next(self._numbers)} of {self._host.name}",
            # Compiled once, as an installed package is; nothing of it in the checkout.
            *("env", "-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={self._host.folder / 'compiled'}"),
            *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--on-exit", "remove"),
            *("--state-dir", str(state), "--socket", str(self._host.socket), "--node", self._host.name),
            *("--trust-domain", TRUST_DOMAIN),
        )
        # Told by its log: its API would read the counters of every pod for each question.
        await self._agent.said("upgrader knows all", START_SECONDS)
        taken = time.perf_counter() - before
        async with AgentClient(self._host.socket) as agent:
            states = {each.state for each in (await agent.status()).workloads}
        if not states <= {"covered"}:
            raise ProgramEnded(f"{self._agent.name}: workloads are {states}", remedy="run `jfe doctor`")
        return taken

    async def kill_agent(self) -> None:
        """As by SIGKILL; the upgrader and the rules stay."""
        assert self._agent is not None
        await self._programs.end(self._agent, signal.SIGKILL)

    async def make_pods(self, count: int) -> list[str]:
        made = [f"{self._host.name}-p{next(self._numbers)}" for _ in range(count)]
        for pod in made:
            await ip("netns", "add", pod)
            self._pods.append(pod)
        return made

    async def make_files(self) -> None:
        """The networks' lists, and a mount namespace in which nobody else's records lie."""
        folder = self._host.folder / "net.d"
        folder.mkdir()
        plugins = self._host.folder / "bin"
        plugins.mkdir()
        for name in ("bridge", "host-local"):
            (plugins / name).symlink_to(REFERENCE_PLUGINS / name)
        (plugins / "jfe").symlink_to(binaries.find("jfe-cni-plugin"))
        ipam = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]], "dataDir": str(self._host.folder / "ipam")}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
        ours = {"type": "jfe", "agentSocket": str(self._host.socket)}
        for name, chain in (("without", [bridge]), ("with", [bridge, ours])):
            conflist = {"cniVersion": VERSION, "name": name, "plugins": chain}
            (folder / f"{name}.conflist").write_text(json.dumps(conflist))
        holding = "mkdir -p /var/lib/cni && mount -t tmpfs tmpfs /var/lib/cni && exec sleep infinity"
        self._files = await self._programs.start(
            self._host, "files", "unshare", "--mount", "--propagation", "slave", "sh", "-c", holding
        )
        await self._files.until(self._mounted, "to mount its files", START_SECONDS)

    async def add(self, pod: str, *, covered: bool) -> float:
        """Seconds of ADD through the chain: bridge alone, or ours after it."""
        before = time.perf_counter()
        await self._call("add", pod, covered=covered)
        return time.perf_counter() - before

    async def delete(self, pod: str, *, covered: bool) -> None:
        await self._call("del", pod, covered=covered)
        await self._forget(pod)

    def agent_megabytes(self) -> float:
        """Proportional set size."""
        assert self._agent is not None
        return memory_megabytes([self._agent.process.pid])

    def upgrader_megabytes(self) -> float:
        for root in CGROUPS:
            members = root / "jfe" / self._host.name / "upgrader" / "cgroup.procs"
            if members.exists():
                return memory_megabytes(int(pid) for pid in members.read_text().split())
        raise ProgramEnded(f"the upgrader of {self._host.name} has no cgroup", remedy="run `jfe doctor`")

    def sockets(self) -> int:
        """Of the kernel, held by the upgrader in all pods; what they take is not in any process's memory."""
        for root in CGROUPS:
            members = root / "jfe" / self._host.name / "upgrader" / "cgroup.procs"
            if members.exists():
                held = set()
                for pid in members.read_text().split():
                    for entry in Path("/proc", pid, "fd").iterdir():
                        with contextlib.suppress(FileNotFoundError):
                            target = str(entry.readlink())
                            if target.startswith("socket:"):
                                held.add(target)
                return len(held)
        return 0

    async def remove(self) -> None:
        for pod in list(self._pods):
            await self._forget(pod)

    async def _forget(self, pod: str) -> None:
        await ip("netns", "delete", pod)
        self._pods.remove(pod)

    def _mounted(self) -> bool:
        assert self._files is not None
        return " /var/lib/cni " in Path("/proc", str(self._files.process.pid), "mounts").read_text()

    async def _call(self, command: str, pod: str, *, covered: bool) -> None:
        assert self._files is not None
        environment = {
            "CNI_PATH": str(self._host.folder / "bin"),
            "NETCONFPATH": str(self._host.folder / "net.d"),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={pod}",
            "PATH": os.environ["PATH"],
        }
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={self._files.process.pid}", "--mount", "--net", "--"),
            *(str(REFERENCE_PLUGINS / "cnitool"), command, "with" if covered else "without", str(NAMESPACES / pod)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        _, complaint = await process.communicate()
        if process.returncode != 0:
            raise HostError(f"cnitool {command}: {complaint.decode(errors='replace')}", remedy="see `jfe doctor`")


@contextlib.asynccontextmanager
async def node(folder: Path, name: str) -> AsyncIterator[Node]:
    """Without an agent yet."""
    if not (REFERENCE_PLUGINS / "cnitool").exists():
        raise HostError(
            "cnitool and the reference plugins are not built", remedy="run dev/go-programs, or `make bench`"
        )
    host = Host(name, _NOWHERE, folder)
    folder.mkdir(mode=0o700)
    await ip("netns", "add", name)
    try:
        await ip("-netns", name, "link", "set", "lo", "up")
        async with Programs(name, folder) as programs:
            made = Node(host, programs)
            await made.make_files()
            try:
                yield made
            finally:
                await made.remove()
    finally:
        await ip("netns", "delete", name)


async def at_once(node: Node, pods: Sequence[str], *, covered: bool) -> float:
    """Seconds until the last is there."""
    before = time.perf_counter()
    await asyncio.gather(*(node.add(pod, covered=covered) for pod in pods))
    return time.perf_counter() - before
