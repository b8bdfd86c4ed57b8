"""A network namespace: entered by a program or a thread, and, where it is a test's own, made and taken away."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

# linux/sched.h
CLONE_NEWNET = 0x40000000
# linux/tcp_states.h, as /proc/net/tcp prints it.
LISTEN = "0A"

T = TypeVar("T")


def ip(*words: str) -> str:
    """iproute2. CalledProcessError where it fails, with what it said in the notes."""
    try:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise


class ExistingNamespace:
    """Somebody else has made it, and somebody else takes it away. `path` leads to it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.inode = path.stat().st_ino

    def command(self, *words: str) -> list[str]:
        """Only the network is another: `ip netns exec` would remount /sys and hide the cgroups."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    def inside(self, work: Callable[[], T]) -> T:
        """`work()` on a thread of its own that has entered the namespace."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                with self.path.open("rb") as file:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns to {self.path}")
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever asked
                failure.append(error)

        thread = threading.Thread(target=enter_and_work, name=f"inside {self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def listening(self, port: int) -> bool:
        """Whether a TCP socket of this namespace listens on `port`, on any address."""

        def look() -> bool:
            for table in ("tcp", "tcp6"):
                for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
                    _, local, _, state, *_ = line.split()
                    if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                        return True
            return False

        return self.inside(look)

    def processes(self) -> dict[int, str]:
        """Process id → command line of all whose network this is."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "ns/net").stat().st_ino == self.inode:
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = words.strip() or (entry / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                # It ended meanwhile, or is one that nobody here may look at, and so none that was started here.
                continue
        found.pop(os.getpid(), None)
        return found


class NetworkNamespace(ExistingNamespace):
    """`name` as `ip netns` has it. `lo` is up from the start."""

    def __init__(self, name: str) -> None:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "set", "lo", "up")
            super().__init__(name, Path("/run/netns", name))
        except (OSError, subprocess.CalledProcessError):
            ip("netns", "delete", name)
            raise

    def delete(self) -> None:
        if self.path.exists():
            ip("netns", "delete", self.name)
