"""A key-encryption key in a file that nobody else may read: base64 of 32 bytes and a line's end."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from pathlib import Path

from jfe_cni import private_file
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.keys.local import KEY_SIZE, LocalKey, decode


def file_key(path: Path) -> LocalKey:
    """The key in `path`, made where there is none yet. Raises SealingError: others may read it, or it is no key.

    A key that was lost is not found again by making another: what it had sealed stays shut, and says so."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Another replica on the same host may be quicker: then its key is the one.
            with contextlib.suppress(FileExistsError):
                private_file.put(path, base64.b64encode(os.urandom(KEY_SIZE)) + b"\n", replace=False)
        return decode(_read(path), str(path))
    except OSError as error:
        raise SealingError(
            f"the key-encryption key in {path} can't be read: {error.strerror}", remedy="restore it from a backup"
        ) from error


def _read(path: Path) -> str:
    # What is read is what was looked at: the descriptor's file, whatever the name comes to mean.
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise SealingError(
                f"{path} is open to others than its owner (mode {mode:04o})",
                remedy=f"if nobody else has read it, chmod 0600 {path}; else seal everything under a new key",
            )
        if status.st_uid != os.geteuid():
            raise SealingError(
                f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}", remedy=f"chown it: {path}"
            )
        return file.read(4096).decode("ascii", errors="replace")
