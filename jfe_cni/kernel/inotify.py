"""Being told when something in a folder changes (inotify(7)).

Like the notifications of `kernel.watch`, these say that something changed, not what: whoever is told looks. An overflow
of the queue is a notification like any other, so none is missed unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from jfe_cni.errors import HostError, KernelError

IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_ONLYDIR = 0x01000000
"""linux/inotify.h. IN_MODIFY is left out: half-written files are no news."""

EVENTS = (
    IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
)
BUFFER = 65536


class Inotify:
    """`with Inotify() as inotify:`, inside a running event loop. `changed` is set by each burst of changes, and cleared
    by whoever waits for it."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise KernelError(
                f"no folder can be watched ({os.strerror(ctypes.get_errno())})",
                remedy="raise fs.inotify.max_user_instances",
            )
        asyncio.get_running_loop().add_reader(self._descriptor, self._drain)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def add(self, folder: Path) -> bool:
        """False where there is no such folder. One that is watched already stays so; one that was made anew under the
        same path is watched from now on.

        Raises HostError where it may not be read, KernelError where too much is watched."""
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), EVENTS | IN_ONLYDIR)
        if watch >= 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ENOTDIR):
            return False
        if number == errno.EACCES:
            raise HostError(f"{folder} may not be watched", remedy="run as root")
        raise KernelError(
            f"{folder} cannot be watched ({os.strerror(number)})", remedy="raise fs.inotify.max_user_watches"
        )

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, BUFFER):
                self.changed.set()
