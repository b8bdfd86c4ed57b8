"""The two ways of rename that Python's library lacks (renameat2(2), Linux 3.15)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""linux/fs.h"""

AT_FDCWD = -100
"""linux/fcntl.h"""

# A file system that knows neither (vfat, some network file systems) says EINVAL; a C library without the call has no
# such function (musl before 1.2.6).
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS)


def exchange(one: Path, other: Path) -> bool:
    """Two existing paths change places, in one step. False, and nothing done, where the file system can't do that.

    Raises OSError: FileNotFoundError where one of them is absent."""
    return _rename(one, other, RENAME_EXCHANGE)


def move_to_new(source: Path, target: Path) -> bool:
    """`source` becomes `target`, which must not exist. False, and nothing done, where the file system can't do that.

    Raises OSError: FileExistsError where `target` exists."""
    return _rename(source, target, RENAME_NOREPLACE)


def _rename(source: Path, target: Path, flags: int) -> bool:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))
