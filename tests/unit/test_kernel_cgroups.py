"""Cgroups that come and go while they are looked at, on plain folders."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from jfe_cni.errors import HostError
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup


def test_cgroups_that_vanish_during_the_search_are_passed_over(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(50)]
    for folder in folders:
        folder.mkdir()
    number = folders[-1].stat().st_ino
    stop = threading.Event()

    def come_and_go() -> None:
        for folder in itertools.cycle(folders[:-1]):
            if stop.is_set():
                return
            folder.rmdir()
            folder.mkdir()

    # Each search meets some folder that is away just then; without the guard this ends by a FileNotFoundError.
    coming = threading.Thread(target=come_and_go)
    coming.start()
    try:
        for _ in range(500):
            assert number in CgroupTree(tmp_path).numbers_below(number)
            assert CgroupTree(tmp_path).numbers_below(0) == {0}
    finally:
        stop.set()
        coming.join()


def test_a_kernel_that_cannot_kill_a_cgroup_is_told_from_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    MadeCgroup(tmp_path, tmp_path / "gone").kill()
    # A folder of kernfs, as cgroups are, that has no such file.
    plain = Path("/sys/kernel")
    assert not (plain / "cgroup.kill").exists()
    with pytest.raises(HostError, match=r"no /sys/kernel/cgroup\.kill"):
        MadeCgroup(plain, plain).kill()
