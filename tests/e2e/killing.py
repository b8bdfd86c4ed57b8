"""SIGKILL by process id, and the end waited for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.stage import eventually


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        eventually(lambda p=pid: ended(p), f"process {pid} has ended")  # type: ignore[misc]


def ended(pid: int) -> bool:
    """A zombie has ended, too: whoever started it has yet to hear."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
