"""One `jfe cni` at a time changes a folder of network configurations: what one took out, another would put back.

The lock is flock(2) on the folder itself: no file of ours is needed where runtimes look, it holds between containers
that mount the same folder, and it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from jfe_cni.errors import ConflictError, HostError


class FolderLock:
    """`with FolderLock(folder) as lock:`. A folder that does not exist needs no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.renew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def renew(self) -> None:
        """Takes the lock of a folder that was made, or made anew, since. Raises ConflictError where another has it."""
        try:
            opened = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._release()
            return
        except OSError as error:
            raise HostError(f"{self._folder} can't be opened: {error.strerror}", remedy="name a folder") from error
        if self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.fstat(opened)):
            os.close(opened)
            return
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(opened)
            raise ConflictError(
                f"another `jfe cni` is at work on {self._folder}",
                remedy="stop it first, if it is a `jfe cni install --watch`; else try again",
            ) from error
        self._release()
        self._descriptor = opened

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
