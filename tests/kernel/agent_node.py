"""An agent on the tests' node, with a state folder of its own, and what its tests ask of hosts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import Enrolment, Mode, Target
from jfe_cni.agent.reports import StatusReport, WorkloadReport
from jfe_cni.errors import AgentError
from jfe_cni.kernel.cgroups import CgroupTree
from tests.kernel import lab
from tests.kernel.lab import Host

T = TypeVar("T")


class Node:
    """An agent in the namespace of `host`, with a state folder of its own."""

    _serial = itertools.count()

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.name = f"test-{os.getpid():x}-{next(self._serial)}"
        self.socket = folder / "agent.sock"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("nsenter", f"--net={self.host.path}", "--"),
                    *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--node", self.name, "--workers", "1"),
                    *("--state-dir", str(self.folder / "state"), "--socket", str(self.socket)),
                    *("--log-format", "json", "--on-exit", "remove", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        lab.until(self._answers, f"the agent does not answer: {self.log.read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(timeout=30) == 0, self.log.read_text()
            self.process = None

    def ask(self, verb: str, *arguments: Any) -> Any:
        async def asked() -> object:
            async with AgentClient(self.socket) as agent:
                answer: object = await getattr(agent, verb)(*arguments)
                return answer

        return run(asked())

    def enrol(self, host: Host, mode: Mode = "strict") -> WorkloadReport:
        report: WorkloadReport = self.ask("enrol", Enrolment(Target("netns", str(host.path)), mode, host.name))
        return report

    def status(self) -> StatusReport:
        status: StatusReport = self.ask("status")
        return status

    def workload(self, host: Host) -> WorkloadReport:
        report: WorkloadReport = self.ask("workload", host.name)
        return report

    def covered(self, host: Host) -> bool:
        return any(each.id == host.name and each.state == "covered" for each in self.status().workloads)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(AgentError):
            return self.status().upgrader_connected
        return False


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def cover_of(host: Host) -> str:
    """Rules, routes and sysctls, without the record of what was before, which a flush takes along."""
    return re.sub(r"former [-01 ]+", "", settled(host))


def settled(host: Host) -> str:
    """Its state, once the kernel has given its device a link-local address."""
    lab.until(lambda: "local fe80" in host.state(), "no link-local address")
    return host.state()


def pids_of_upgrader(node: Node, tree: CgroupTree) -> list[int]:
    return [int(line) for line in (tree.path(f"jfe/{node.name}/upgrader") / "cgroup.procs").read_text().split()]
