"""One upgrader process: started in a cgroup of its own and a session of its own, so that it outlives the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.errors import UpgraderError

# From exec to a listening control socket takes milliseconds; a loaded host gets more.
START_SECONDS = 10.0
# Enough for the broker to end its workers; then it is killed.
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02

# The shell joins the cgroup before it becomes the upgrader: there is no moment in which a socket of the upgrader could
# be made in another cgroup, and sockets keep the one they were made in.
_JOIN = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True)
class Command:
    """`cgroup`: the folder of the upgrader's cgroup."""

    program: Path
    control: Path
    cgroup: Path
    log: Path
    workers: int

    def line(self) -> list[str]:
        upgrader = [str(self.program), "--control", str(self.control), "--workers", str(self.workers)]
        return ["/bin/sh", "-c", _JOIN, str(self.cgroup / "cgroup.procs"), *upgrader]


async def start(command: Command) -> subprocess.Popen[bytes]:
    """Starts it and waits until its control socket is there. Raises UpgraderError with the last line of its log."""
    command.control.unlink(missing_ok=True)
    process = await asyncio.to_thread(_spawn, command)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not command.control.exists():
                if process.poll() is not None:
                    raise UpgraderError(
                        f"the upgrader ended at its start (status {process.returncode}): {last_line(command.log)}",
                        remedy=f"see {command.log}",
                    )
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        process.kill()
        await asyncio.to_thread(process.wait)
        raise UpgraderError(
            f"the upgrader made no control socket within {START_SECONDS:.0f} s", remedy=f"see {command.log}"
        ) from error
    return process


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    descriptor = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as log:
        return subprocess.Popen(
            command.line(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


async def stop(pid: int) -> None:
    """Ends the process `pid` (SIGTERM, then SIGKILL) and waits until it is gone; one that is gone already is done."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not await _ended(descriptor, STOP_SECONDS):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            await _ended(descriptor, STOP_SECONDS)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


async def _ended(descriptor: int, seconds: float) -> bool:
    """pidfd_open(2): readable when the process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "it wrote no log"
    written = [line.strip() for line in lines if line.strip()]
    return written[-1] if written else "it wrote nothing"
