"""Files that are whole at every moment, and no update of a rival lost.

A new content is written beside the file and renamed. Beside it: containerd overlooks what is renamed into its folder
from another (it ignores fsnotify's Create, cni_conf_syncer.go). Under a name that no runtime loads.

Between reading a file and renaming another over it somebody else may have written it. So the two change places
(RENAME_EXCHANGE), and what was displaced is looked at: if it is not what was read, it is a rival's, and the change is
made to that.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel import rename

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".jfe-", ".tmp"
NEW_MODE = 0o644
BINARY_MODE = 0o755
FOLDER_MODE = 0o755
# Of changes of a rival in a row that one call follows; a rival that is as quick as that is met again later.
ROUNDS = 20

Change = Callable[[bytes], bytes | None]
"""From a file's content to what it should be, the same where it is right. None: this is no content to be changed."""


def update(path: Path, change: Change) -> bool:
    """Brings `path` to `change(content)`, with its mode and owner. Whether anything was written.

    A content that `change` will not have stays as it is, also where it came in between. Raises FileNotFoundError where
    the file is gone, KernelError where a rival gives no rest, HostError where it can't be written."""
    # Of a link, what it leads to: its owner goes on writing there.
    path = path.resolve()
    there = content = read(path)
    for round_number in range(ROUNDS):
        wanted = change(content)
        if wanted is None or wanted == there:
            return round_number > 0
        with temporary(path.parent, wanted, like=path) as made:
            if not _exchange(made, path):
                return True
            displaced = read(made)
            if displaced == there:
                _sync_folder(path.parent)
                return True
            if change(displaced) is None:
                # Half-written in place by somebody who still holds it open: put back, so that it is whole in the end.
                _give_back(made, path, wanted)
                return False
            if round_number == ROUNDS - 1:
                _give_back(made, path, wanted)
        there, content = wanted, displaced
    raise KernelError(f"{path} is rewritten by another faster than it can be mended", remedy="try again")


def create(path: Path, content: bytes, *, like: Path) -> bool:
    """`path` with the mode and owner of `like`. False, and nothing done, where it exists."""
    with temporary(path.parent, content, like=like) as made:
        return _move_to_new(made, path)


def take_away(path: Path, expected: bytes) -> bool:
    """Removes `path` if it has the content `expected`; one that is gone is removed. False where it has another.

    It is moved aside before it is looked at: what a rival puts there in between is not removed by mistake."""
    with contextlib.suppress(FileNotFoundError), temporary(path.parent, b"", like=path) as aside:
        with _faults(path):
            path.replace(aside)
        if read(aside) != expected:
            _move_to_new(aside, path)
            return False
    return True


def place_drop_in(path: Path, content: bytes, *, like: Path) -> bool:
    """Whether anything was written. `like`: a file of the configuration's folder, which is the parent of the network's.

    Written in the configuration's folder and moved down: containerd watches that one alone, and reads all of it anew
    when something leaves it, which is after the drop-in is in place."""
    if path.is_file() and read(path) == content:
        return False
    with _faults(path):
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        with temporary(path.parent.parent, content, like=like) as made:
            made.replace(path)
            _sync_folder(path.parent)
    return True


def remove_drop_in(path: Path) -> None:
    """With its folder, if that is empty then. One that is gone is removed.

    Moved up first, so that containerd sees something leave the configuration's folder (see `place_drop_in`)."""
    with _faults(path):
        with contextlib.suppress(FileNotFoundError), temporary(path.parent.parent, b"", like=path) as made:
            path.replace(made)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def place_binary(path: Path, content: bytes) -> bool:
    """An executable of mode 0755, in a folder that is made if need be. Whether anything was written.

    One that runs meanwhile goes on as it was: the rename leaves its inode alone."""
    with _faults(path):
        if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o7777 == BINARY_MODE:
            return False
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with temporary(path.parent, content, mode=BINARY_MODE) as made:
            made.replace(path)
            _sync_folder(path.parent)
    return True


def remove(path: Path) -> bool:
    """Whether it was there."""
    with _faults(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def sweep(*folders: Path) -> None:
    """Removes what a run that was killed left half done. Only for whoever holds the lock."""
    for folder in folders:
        with _faults(folder):
            for path in folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary(folder: Path, content: bytes, *, like: Path | None = None, mode: int = NEW_MODE) -> Iterator[Path]:
    """A file with `content` on the disk, with the mode and owner of `like`; at the end there is none of its name.

    FileNotFoundError where `like` is gone."""
    with _faults(folder):
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX, suffix=TEMPORARY_SUFFIX)
        made = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if like is not None:
                    status = like.stat()
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                    mode = status.st_mode & 0o7777
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            yield made
        finally:
            made.unlink(missing_ok=True)


def _exchange(made: Path, path: Path) -> bool:
    """False where the file system can only replace: then it has been replaced, and nobody knows what was displaced."""
    with _faults(path):
        exchanged = rename.exchange(made, path)
        if not exchanged:
            made.replace(path)
        return exchanged


def _give_back(made: Path, path: Path, ours: bytes) -> None:
    """`path`, which should hold `ours`, gets what is in `made`; or what a rival has written there by now."""
    there = ours
    while True:
        given = read(made)
        _exchange(made, path)
        if read(made) == there:
            return
        there = given


def _move_to_new(source: Path, path: Path) -> bool:
    with _faults(path):
        try:
            if not rename.move_to_new(source, path):
                os.link(source, path)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True


def read(path: Path) -> bytes:
    with _faults(path):
        return path.read_bytes()


def read_program(path: Path) -> bytes:
    """One of ours that is to be placed. Raises HostError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}", remedy="install the package anew") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        # A rival was quicker: for the caller to look again.
        raise
    except PermissionError as error:
        raise HostError(f"{path} may not be changed", remedy="run as root") from error
    except OSError as error:
        raise HostError(f"{path} can't be changed: {error.strerror}", remedy="make room, or mend its folder") from error
