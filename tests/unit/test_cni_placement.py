"""Files that change under a rival's hands: at which moment the rival writes is chosen here."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from jfe_cni.cni import placement
from jfe_cni.errors import KernelError
from jfe_cni.kernel import rename
from jfe_cni.kernel.inotify import IN_DELETE, IN_MOVED_FROM

LEAVES_FOLDER = {IN_MOVED_FROM, IN_DELETE}
"""What fsnotify calls Rename and Remove. containerd loads its configuration anew at these, and not when something comes
(internal/cri/server/cni_conf_syncer.go)."""


def write_by_rename(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".rival")
    beside.write_bytes(content)
    beside.rename(path)


def upper(*meanwhile: Callable[[], object]) -> placement.Change:
    """A change during which a rival acts: `meanwhile`, one after the other. It will have no content that is empty."""
    acts = list(meanwhile)

    def change(content: bytes) -> bytes | None:
        if acts:
            acts.pop(0)()
        return content.upper() or None

    return change


def test_what_a_rival_wrote_between_reading_and_renaming_is_changed_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"first")
    assert placement.update(path, upper(lambda: write_by_rename(path, b"second")))
    assert path.read_bytes() == b"SECOND"
    assert list(tmp_path.iterdir()) == [path]


def test_that_holds_for_each_of_several_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"none")
    acts = [lambda at=at: write_by_rename(path, b"generation %d" % at) for at in range(9)]
    assert placement.update(path, upper(*acts))
    assert path.read_bytes() == b"GENERATION 8"


def test_what_a_rival_wrote_that_is_right_as_it_is_stands(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"first")
    placement.update(path, upper(lambda: write_by_rename(path, b"RIGHT")))
    assert path.read_bytes() == b"RIGHT"


def test_a_file_that_a_rival_holds_open_half_written_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"first")
    with path.open("r+b") as held:
        assert not placement.update(path, upper(lambda: held.truncate(0)))
        held.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_rival_that_gives_no_rest_is_an_error_and_has_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"none")
    written: list[bytes] = []

    def write_again() -> None:
        written.append(b"generation %d" % len(written))
        write_by_rename(path, written[-1])

    with pytest.raises(KernelError, match="faster than"):
        placement.update(path, upper(*[write_again] * 1000))
    # The last that it wrote, or, where that was displaced by the one before it, still its own.
    assert path.read_bytes() == written[-1]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_right_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"RIGHT")
    before = path.stat()
    assert not placement.update(path, upper())
    assert path.stat() == before


def test_a_file_that_is_gone_is_for_the_caller_to_know(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"first")
    with pytest.raises(FileNotFoundError):
        placement.update(path, upper(path.unlink))
    assert list(tmp_path.iterdir()) == []


def test_only_the_content_that_was_read_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_bytes(b"newer")
    assert not placement.take_away(path, b"older")
    assert path.read_bytes() == b"newer"
    assert placement.take_away(path, b"newer")
    assert list(tmp_path.iterdir()) == []
    assert placement.take_away(path, b"newer")


def test_what_exists_is_not_created(tmp_path: Path) -> None:
    like, path = tmp_path / "like", tmp_path / "list"
    like.write_bytes(b"")
    like.chmod(0o604)
    assert placement.create(path, b"one", like=like)
    assert not placement.create(path, b"two", like=like)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o604)
    assert sorted(tmp_path.iterdir()) == [like, path]


def events(folder: Path, work: Callable[[], object]) -> list[int]:
    """Which of `LEAVES_FOLDER` inotify(7) tells of `folder` for `work`."""
    libc = ctypes.CDLL(None)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(folder), sum(LEAVES_FOLDER)) > 0
        work()
        told = os.read(descriptor, 65536)
    finally:
        os.close(descriptor)
    found = []
    while told:
        _watch, mask, _cookie, length = struct.unpack_from("iIII", told)
        found.append(mask)
        told = told[16 + length :]
    return found


def test_containerd_is_told_of_a_drop_in_that_comes_when_it_is_in_place_and_of_one_that_goes(tmp_path: Path) -> None:
    listed, drop_in = tmp_path / "net.conflist", tmp_path / "net" / "zz-jfe.conf"
    listed.write_bytes(b"{}")
    come = events(tmp_path, lambda: placement.place_drop_in(drop_in, b"{}", like=listed))
    # Moved down, which is one step: whoever is told of it finds the drop-in there.
    assert come == [IN_MOVED_FROM]
    gone = events(tmp_path, lambda: placement.remove_drop_in(drop_in))
    assert IN_DELETE in gone
    assert list(tmp_path.iterdir()) == [listed]


def test_containerd_is_told_of_a_list_that_changes(tmp_path: Path) -> None:
    listed = tmp_path / "net.conflist"
    listed.write_bytes(b"first")
    assert IN_MOVED_FROM in events(tmp_path, lambda: placement.update(listed, upper()))


def test_a_folder_that_another_uses_too_stays(tmp_path: Path) -> None:
    drop_in, others = tmp_path / "net" / "zz-jfe.conf", tmp_path / "net" / "10-other.conf"
    drop_in.parent.mkdir()
    drop_in.write_bytes(b"{}")
    others.write_bytes(b"{}")
    placement.remove_drop_in(drop_in)
    assert list(drop_in.parent.iterdir()) == [others]


def test_two_files_change_places_in_one_step_and_an_absent_one_is_said(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    assert rename.exchange(one, other)
    assert (one.read_bytes(), other.read_bytes()) == (b"2", b"1")
    with pytest.raises(FileNotFoundError):
        rename.exchange(one, tmp_path / "absent")
    with pytest.raises(FileExistsError):
        rename.move_to_new(one, other)
