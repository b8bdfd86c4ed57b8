"""A host of the stage: a place with an agent, an upgrader and a node name of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import Cover, DirectoryEntry, Enrolment, Mode, Target, WorkloadSettings, network_of
from jfe_cni.agent.reports import ConnectionReport, WorkloadReport
from jfe_cni.errors import AgentError
from tests.stage.deadline import eventually
from tests.stage.namespace import ExistingNamespace
from tests.stage.place import Place
from tests.stage.process import Process

TRUST_DOMAIN = "jfe.test"
CGROUP_ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
FIELDS = (
    "workload",
    "direction",
    "source",
    "destination",
    "decision",
    "reason",
    "peer",
    "bytes_sent",
    "bytes_received",
)

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """One connection as the host's upgrader tells of it; addresses are `ADDRESS:PORT` or `[ADDRESS]:PORT`."""

    workload: str
    direction: str
    source: str
    destination: str
    decision: str | None
    reason: str | None
    peer: str | None
    bytes_sent: int
    bytes_received: int
    ended: bool


class Host(Place):
    """`folder` is the agent's state, too; `identity` is what `enrol` gives its namespace unless told otherwise."""

    def __init__(self, namespace: ExistingNamespace, folder: Path, ipv4: str, ipv6: str, authority: Path) -> None:
        super().__init__(namespace, folder, ipv4, ipv6)
        self._authority = authority
        self._agents = 0
        self._agent: Process | None = None
        self._logs: list[Path] = []
        # Whether everything was taken back by an agent that ended in order: then the kernel must be as it was.
        self.released = True

    @property
    def socket_path(self) -> Path:
        return self.folder / "agent.sock"

    @property
    def identity(self) -> str:
        return f"spiffe://{TRUST_DOMAIN}/host/{self.name}/namespace/{self.name}"

    @property
    def agent(self) -> Process:
        assert self._agent is not None, f"no agent was started on {self.name}"
        return self._agent

    def start_agent(self, *options: str, on_exit: str = "remove", ready: bool = True) -> Process:
        """`options` are those of `jfe agent`, the last of a name counting. Returns when it has proved its rules and has
        an upgrader, where it is to get `ready`."""
        log = self.folder / f"agent-{self._agents}.log"
        self._agents += 1
        self._logs.append(log)
        self.released = False
        command = (
            *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--on-exit", on_exit, "--workers", "1"),
            *("--state-dir", str(self.folder), "--socket", str(self.socket_path), "--node", self.name),
            *("--trust-domain", TRUST_DOMAIN),
            *(() if "--ca" in options else ("--authority-dir", str(self._authority))),
            *("--log-format", "json", "--log-connections", *options),
        )
        self._agent = Process(self.entering(*command), log)
        if ready:
            self.await_ready()
        return self._agent

    def await_ready(self) -> None:
        eventually(self._ready, f"the agent of {self.name} gets ready", otherwise=self.agent.output)

    def _ready(self) -> bool:
        self.agent.check_alive("it was expected to get ready")
        try:
            return self.ask(lambda agent: agent.status()).upgrader_connected
        except AgentError:
            return False

    def stop_agent(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status. After SIGTERM with `on_exit="remove"` the kernel must be as it was before."""
        status = self.agent.stop(number)
        self.released = number is signal.SIGTERM and "remove" in self.agent.command and status == 0
        return status

    def ask(self, verb: Callable[[AgentClient], Awaitable[T]]) -> T:
        """Any verb of the agent's API: `host.ask(lambda agent: agent.status())`. Raises what the agent answers."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        async def converse() -> None:
            async with AgentClient(self.socket_path) as agent:
                outcome.append(await verb(agent))

        def work() -> None:
            try:
                asyncio.run(converse())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever asked
                failure.append(error)

        # A thread of its own has no running loop, whatever kind of test calls.
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def enrol(
        self,
        mode: Mode = "strict",
        *,
        name: str | None = None,
        identity: str | None = None,
        target: Target | None = None,
        **settings: Any,
    ) -> WorkloadReport:
        """This host's own namespace, or `target`; `settings` are those of WorkloadSettings."""
        enrolment = Enrolment(
            target or Target("netns", str(self.path)),
            mode,
            name=name or self.name,
            identity=identity or (self.identity if target is None else None),
            settings=WorkloadSettings(**settings),
        )
        return self.ask(lambda agent: agent.enrol(enrolment))

    def unenrol(self, workload: str | None = None) -> None:
        self.ask(lambda agent: agent.unenrol(workload or self.name))

    def know(
        self,
        place: Place,
        *,
        identity: str | None = None,
        port: int | None = None,
        cover: Cover = "covered",
        excluded_ports: tuple[int, ...] = (),
    ) -> None:
        """Puts both addresses of `place` into this host's directory."""
        entries = [
            DirectoryEntry(network_of(network, "the test"), port, identity, cover, excluded_ports)
            for network in (f"{place.ipv4}/32", f"{place.ipv6}/128")
        ]
        self.ask(lambda agent: agent.add_to_directory(entries))

    def connections(self) -> list[Connection]:
        """Those that have ended since the first agent's start, then those open now."""
        ended = [line for log in self._logs for line in _ended(log)]
        reports = self.ask(lambda agent: agent.connections())
        return [*ended, *(_open(report) for report in reports)]

    def told(self, **wanted: object) -> list[Connection]:
        """Waits until at least one connection matches every field given; returns all that do."""

        def found() -> list[Connection]:
            return [c for c in self.connections() if all(getattr(c, name) == value for name, value in wanted.items())]

        return eventually(
            found, f"{self.name} tells of a connection with {wanted}", otherwise=lambda: f"{self.connections()}"
        )

    def cgroups(self) -> list[Path]:
        """Of this node, the deepest first."""
        roots = [root / "jfe" / self.name for root in CGROUP_ROOTS if (root / "jfe" / self.name).is_dir()]
        return sorted((p for root in roots for p in (root, *root.rglob("*")) if p.is_dir()), reverse=True)

    def upgrader(self) -> list[int]:
        """Process ids of the broker and its workers, the oldest first."""
        members = [p / "cgroup.procs" for p in self.cgroups() if p.name == "upgrader"]
        return sorted(int(pid) for file in members for pid in file.read_text().split())

    def stop_all(self) -> None:
        super().stop_all()
        if self._agent is not None and self._agent.alive:
            self.stop_agent()
        for pid in self.upgrader():
            os.kill(pid, signal.SIGKILL)

    def diagnosis(self) -> str:
        lines = [super().diagnosis()]
        for log in (*self._logs, self.folder / "upgrader.log"):
            if log.exists():
                lines += [f"-- {log.name}:", log.read_text(errors="replace")[-6000:].strip()]
        return "\n".join(lines)


def _ended(log: Path) -> list[Connection]:
    """The agent's lines about connections: those alone have both fields."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if '"decision"' not in line or '"direction"' not in line:
            continue
        fields = json.loads(line)
        found.append(Connection(**{name: fields[name] for name in FIELDS}, ended=True))
    return found


def _open(report: ConnectionReport) -> Connection:
    return Connection(**{name: getattr(report, name) for name in FIELDS}, ended=False)
