"""A place on the link: a network namespace with an address, in which programs are run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, SOCK_STREAM
from socket import socket as Socket  # noqa: N812 - the method has its name
from typing import Literal, TypeVar

from tests.stage.deadline import DEADLINE, eventually
from tests.stage.namespace import ExistingNamespace
from tests.stage.process import Process

T = TypeVar("T")
Version = Literal[4, 6]


class Failed(AssertionError):
    """A program has not done what it was run for."""


class Place:
    """`folder` holds the logs of what runs here, and is for whoever needs files."""

    def __init__(self, namespace: ExistingNamespace, folder: Path, ipv4: str, ipv6: str) -> None:
        self.namespace = namespace
        self.folder = folder
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self._spawned: list[Process] = []

    @property
    def name(self) -> str:
        return self.namespace.name

    @property
    def path(self) -> Path:
        """The namespace's file."""
        return self.namespace.path

    def address(self, version: Version) -> str:
        return self.ipv4 if version == 4 else self.ipv6

    def entering(self, *words: str) -> list[str]:
        """The command that runs `words` here."""
        return self.namespace.command(*words)

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess calls it
        check: bool = True,
        seconds: float = DEADLINE,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs to its end. Failed where `check` and its status is not 0, or after `seconds`."""
        entered = self.entering(*command)
        with subprocess.Popen(
            entered,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(input, timeout=seconds)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                raise Failed(_told(f"did not end within {seconds:.0f} s", entered, out, err)) from error
        if check and process.returncode != 0:
            raise Failed(_told(f"ended with status {process.returncode}", entered, out, err))
        return subprocess.CompletedProcess(entered, process.returncode, out, err)

    def spawn(
        self,
        command: Sequence[str],
        *,
        ready: int | Callable[[], bool] | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        seconds: float = DEADLINE,
    ) -> Process:
        """Starts a program and waits until it listens on the port `ready`, or until `ready()`. `user`: not as root."""
        words = list(command)
        if user is not None:
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *words]
        log = self.folder / f"{len(self._spawned)}-{name or Path(command[0]).name}.log"
        process = Process(self.entering(*words), log, env=env, cwd=cwd)
        self._spawned.append(process)
        if ready is not None:

            def started() -> bool:
                process.check_alive("it was expected to get ready")
                return self.listening(ready) if isinstance(ready, int) else ready()

            eventually(started, f"{shlex.join(words)} gets ready", seconds=seconds, otherwise=process.output)
        return process

    def listening(self, port: int) -> bool:
        return self.namespace.listening(port)

    def inside(self, work: Callable[[], T]) -> T:
        """`work()` on a thread that has entered this namespace."""
        return self.namespace.inside(work)

    def socket(self, family: int = AF_INET, kind: int = SOCK_STREAM, protocol: int = 0) -> Socket:
        """A socket of this process, made here; it stays here wherever it is used."""
        return self.namespace.socket(family, kind, protocol)

    def stop_all(self) -> None:
        """Ends what was spawned, the last first."""
        for process in reversed(self._spawned):
            process.stop()

    def diagnosis(self) -> str:
        lines = [f"enter it:  nsenter --net={self.path}"]
        for process in self._spawned:
            said = process.output()[-4000:].strip()
            state = "runs" if process.alive else f"ended with status {process.status}"
            lines += [f"-- {process.log.name} ({state}): {shlex.join(process.command)}", said]
        return "\n".join(lines)


def _told(what: str, command: Sequence[str], out: bytes, err: bytes) -> str:
    printed = out.decode(errors="replace")[-4000:]
    complained = err.decode(errors="replace")[-4000:]
    return f"{what}: {shlex.join(command)}\n--- output\n{printed}\n--- errors\n{complained}"
