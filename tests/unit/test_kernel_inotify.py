"""Being told of changes in a folder, on the real kernel."""

from __future__ import annotations

import asyncio
from pathlib import Path

from jfe_cni.kernel.inotify import Inotify

# For what must be told; nothing is measured by it.
SECONDS = 30.0


async def told(inotify: Inotify) -> None:
    await asyncio.wait_for(inotify.changed.wait(), SECONDS)
    inotify.changed.clear()


async def test_each_way_in_which_a_folder_changes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with Inotify() as inotify:
        assert inotify.add(tmp_path)
        path.write_bytes(b"1")
        await told(inotify)
        path.rename(tmp_path / "b")
        await told(inotify)
        (tmp_path / "b").chmod(0o600)
        await told(inotify)
        (tmp_path / "b").unlink()
        await told(inotify)
        (tmp_path / "folder").mkdir()
        await told(inotify)


async def test_nothing_is_told_of_a_folder_in_which_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    with Inotify() as inotify:
        inotify.add(tmp_path / "quiet")
        (tmp_path / "loud").write_bytes(b"")
        await asyncio.sleep(0.1)
        assert not inotify.changed.is_set()


async def test_an_absent_folder_is_not_watched_and_one_made_anew_is_when_it_is_added_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with Inotify() as inotify:
        assert not inotify.add(folder)
        folder.mkdir()
        assert inotify.add(folder)
        folder.rmdir()
        await told(inotify)
        folder.mkdir()
        assert inotify.add(folder)
        inotify.changed.clear()
        (folder / "a").write_bytes(b"")
        await told(inotify)
