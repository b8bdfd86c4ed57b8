"""The host's processes and the network namespaces that they are in (proc(5)).

A node has thousands of processes and each is asked: by `os`, which takes a third of the time of `pathlib`."""

from __future__ import annotations

import os
from collections.abc import Iterator


def processes() -> Iterator[str]:
    """The number of each, as its folder in /proc is named."""
    return (name for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def network_namespace(process: str) -> tuple[int, int] | None:
    """(device, inode) of the namespace of a process, `self` for this one; None: it is gone, or has none any more."""
    return number_at(f"/proc/{process}/ns/net")


def is_gone(path: str) -> bool:
    """Whether nothing is at `path`. Where it can't be told, there is something."""
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return True
    except OSError:
        return False
    return False


def number_at(path: str) -> tuple[int, int] | None:
    """(device, inode) of what is at `path`; None: nothing is."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino
