"""The agent for the length of one command: the one that is there, or one started for it, ended by its last user.

Several `jfe run` may start and end at once. Two locks beside the socket keep them in order (flock(2): the kernel drops
them when their holder dies, however it dies):

    run.lock    held exclusively while one looks for the agent, starts it or ends it
    run.users   held shared by each user of an agent that a `jfe run` started

Whoever leaves and then gets run.users exclusively was the last, and ends the agent. A `jfe run` that is killed leaves
the agent and the cover where they are; the next one to leave ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.reports import StatusReport
from jfe_cni.agent.settings import DEFAULT_STATE_DIR
from jfe_cni.errors import AgentError

# The agent proves its rules by a connection in a throw-away namespace before it answers, and starts the upgrader.
START_SECONDS = 30.0
END_SECONDS = 15.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class BorrowedAgent:
    """`directory` and `authority`: files of an agent that has to be started; one that answers already has its own."""

    socket: Path
    directory: Path | None = None
    authority: Path | None = None

    @property
    def _folder(self) -> Path:
        return self.socket.parent

    @property
    def _started_file(self) -> Path:
        """Holds the process id of the agent that a `jfe run` started; absent where none did."""
        return self._folder / "run.agent"

    @contextlib.asynccontextmanager
    async def borrowed(self, tidy: Callable[[StatusReport], Awaitable[None]]) -> AsyncIterator[StatusReport]:
        """What the agent says of itself. `tidy` is called at the end if no other `jfe run` is under way."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = os.open(self._folder / "run.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with self._lock():
                fcntl.flock(users, fcntl.LOCK_SH)
                status = await self._answer()
                if status is None:
                    status = await self._start()
                elif self.directory is not None or self.authority is not None:
                    click.echo(
                        f"jfe: the agent on {self.socket} goes by its own directory and authority, not by those given",
                        err=True,
                    )
            yield status
        finally:
            with self._lock():
                if _sole_holder(users):
                    status = await self._answer()
                    if status is not None:
                        await tidy(status)
                    await self._end()
            os.close(users)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        lock = os.open(self._folder / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Waits for another `jfe run` that starts or ends the agent. Nothing else runs in this process meanwhile.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    async def _answer(self) -> StatusReport | None:
        try:
            async with AgentClient(self.socket) as agent:
                return await agent.status()
        except AgentError:
            return None

    async def _start(self) -> StatusReport:
        click.echo(f"jfe: no agent on {self.socket}; starting one for this command …", err=True)
        state = self._folder / "run-state"
        state.mkdir(mode=0o700, exist_ok=True)
        log = state / "agent.log"
        with log.open("wb") as log_file:
            # A session of its own: the terminal's Ctrl-C is for the command, and the agent must outlive it.
            process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                self._command(state),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            status = await self._answer()
            if status is not None and status.upgrader_connected:
                self._started_file.write_text(str(process.pid))
                return status
            await asyncio.sleep(POLL_SECONDS)
        ended = f"ended with status {process.returncode}" if process.returncode is not None else "does not answer"
        process.terminate()
        raise AgentError(
            f"the agent started for this command {ended}; its last words: {_last_words(log)}",
            remedy="`jfe doctor` tells what this host lacks",
        )

    def _command(self, state: Path) -> list[str]:
        command = [sys.executable, "-m", "jfe_cni.cli.main", "agent", "--on-exit", "remove"]
        command += ["--socket", str(self.socket), "--state-dir", str(state)]
        # Where a lasting agent made an authority once, peers know its roots.
        authority = self.authority or DEFAULT_STATE_DIR / "authority"
        if authority.is_dir():
            command += ["--authority-dir", str(authority.absolute())]
        if self.directory is not None:
            command += ["--directory", str(self.directory.absolute())]
        return command

    async def _end(self) -> None:
        try:
            pid = int(self._started_file.read_text())
            with _process(pid) as pidfd:
                # The file outlives a crash of the host's agent, and process ids come round again.
                if b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                    await _ended(pid)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            # None was started by a `jfe run`, or it is gone already.
            pass
        self._started_file.unlink(missing_ok=True)


def _sole_holder(users: int) -> bool:
    """Whether nobody else holds the shared lock; if so it is held exclusively from now on."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


async def _ended(pid: int) -> None:
    """Waits until the agent is gone, so that nothing of it is left when the command returns."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        if _gone(pid):
            return
        await asyncio.sleep(POLL_SECONDS)
    raise AgentError(
        f"the agent that was started for this command (process {pid}) does not end",
        remedy=f"see `jfe status`, then end it with `kill {pid}`",
    )


def _gone(pid: int) -> bool:
    """Whether the process is no more; one of our own children is reaped on the way."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not Path(f"/proc/{pid}").exists()


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "none"
