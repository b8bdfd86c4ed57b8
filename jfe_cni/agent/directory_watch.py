"""The directory file, read when it changes. What can't be read changes nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from jfe_cni.agent import directory_file
from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.directory import FILE, Directory
from jfe_cni.agent.log import fields
from jfe_cni.errors import JfeError

_PERIOD_SECONDS = 1.0


class DirectoryWatch:
    def __init__(self, path: Path, directory: Directory, announcement: Announcement, log: logging.Logger) -> None:
        self._path = path
        self._directory = directory
        self._announcement = announcement
        self._log = log
        self._seen: tuple[int, int, int] | None = None
        self.trouble: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PERIOD_SECONDS)

    async def look(self) -> None:
        """Reads the file if it is another, or has changed, since the last time."""
        stamp = await asyncio.to_thread(self._stamp)
        if stamp == self._seen and stamp is not None:
            return
        try:
            entries = await asyncio.to_thread(directory_file.read, self._path)
        except JfeError as error:
            if str(error) != self.trouble:
                self._log.error("directory file not read", extra=fields(error=str(error)))
            self.trouble = str(error)
            self._seen = stamp
            return
        self._seen, self.trouble = stamp, None
        self._directory.replace(FILE, entries)
        await self._announcement.announce()
        self._log.info("directory file read", extra=fields(file=str(self._path), entries=len(entries)))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
