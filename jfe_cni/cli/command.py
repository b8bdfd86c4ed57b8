"""The command of `jfe run`: started in its cgroup as its caller, signals passed on, its exit status handed back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.errors import RequestError

# What a person or a service manager sends to a command; the rest is between kernel and process.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# The terminal sends these to every process of its foreground group, the command among them (termios(3), ISIG).
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
# What a shell reports for a command that a signal ended (bash(1), EXIT STATUS).
SIGNAL_BASE = 128


@dataclass(frozen=True)
class Caller:
    """Who called: the user behind sudo, or whoever this process is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: dict[str, str]

    @classmethod
    def found(cls, environment: dict[str, str]) -> Caller:
        """From sudo's SUDO_UID and SUDO_GID (sudo(8)); root who called by itself stays root."""
        if os.getuid() != 0 or "SUDO_UID" not in environment or "SUDO_GID" not in environment:
            return cls(os.getuid(), os.getgid(), tuple(os.getgroups()), environment)
        try:
            uid, gid = int(environment["SUDO_UID"]), int(environment["SUDO_GID"])
        except ValueError as error:
            raise RequestError(
                "SUDO_UID or SUDO_GID is not a number", remedy="call `sudo jfe run` instead of setting them"
            ) from error
        kept = {name: value for name, value in environment.items() if not name.startswith("SUDO_")}
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, gid, (gid,), kept)
        theirs = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}
        return cls(uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)), kept | theirs)


class Signals:
    """Signals of this process: passed on to the command while it runs; before and after, they end what is under way."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt
        self.came: signal.Signals | None = None
        self.command: asyncio.subprocess.Process | None = None
        self.cleaning = False

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for number in FORWARDED:
            loop.add_signal_handler(number, self._take, number)
        try:
            yield
        finally:
            for number in FORWARDED:
                loop.remove_signal_handler(number)

    def _take(self, number: signal.Signals) -> None:
        if self.command is not None:
            if not (number in FROM_TERMINAL and in_foreground()):
                with contextlib.suppress(ProcessLookupError):
                    self.command.send_signal(number)
        elif self.came is None and not self.cleaning:
            self.came = number
            self._interrupt()


def in_foreground() -> bool:
    """Whether the terminal's keys reach this process group, and so the command, without us."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


async def run_command(command: Sequence[str], procs: Path, caller: Caller, signals: Signals) -> int:
    """Runs `command` in the cgroup whose cgroup.procs is `procs`; returns its exit status, 128 + N for signal N.

    RequestError where it can't be started."""
    # Opened here as root: from Linux 5.16 on, who opened it decides (kernel commit 1756d7994ad8).
    joined = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)

    def become_the_caller() -> None:
        os.write(joined, b"0")
        os.setgroups(caller.groups)
        os.setresgid(caller.gid, caller.gid, caller.gid)
        os.setresuid(caller.uid, caller.uid, caller.uid)

    try:
        process = await asyncio.create_subprocess_exec(
            *command, env=caller.environment, preexec_fn=become_the_caller, restore_signals=True
        )
    except OSError as error:
        raise RequestError(
            f"{command[0]} can't be started ({error.strerror})", remedy="name a program on PATH, or give its whole path"
        ) from error
    finally:
        os.close(joined)
    signals.command = process
    try:
        status = await process.wait()
    finally:
        signals.command = None
        signals.cleaning = True
    return status if status >= 0 else SIGNAL_BASE - status
