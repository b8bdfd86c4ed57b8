"""The directory file, read when it changes. What can't be read changes nothing, also where the agent is another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from jfe_cni.agent import directory_file
from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.directory import FILE, Directory
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import DirectoryEntry
from jfe_cni.errors import JfeError

_PERIOD_SECONDS = 1.0


class DirectoryWatch:
    """`save` puts on record what the file says, for the next agent."""

    def __init__(
        self,
        path: Path,
        directory: Directory,
        announcement: Announcement,
        save: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self._path = path
        self._save = save
        self._directory = directory
        self._announcement = announcement
        self._log = log
        self._seen: tuple[int, int, int] | None = None
        self._fault: JfeError | None = None

    @property
    def trouble(self) -> str | None:
        return None if self._fault is None else str(self._fault)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PERIOD_SECONDS)

    async def begin(self, last: tuple[DirectoryEntry, ...] | None) -> None:
        """The first reading, told to nobody yet. `last`: what the former agent read in it, which holds until it can be
        read again.

        Raises the JfeError of a file that could never be read: without it, peers under cover would be strangers."""
        if last is not None:
            self._directory.replace(FILE, last)
        await self._read(await asyncio.to_thread(self._stamp))
        if self._fault is not None and last is None:
            raise self._fault

    async def look(self) -> None:
        """Reads the file if it is another, or has changed, since the last time."""
        stamp = await asyncio.to_thread(self._stamp)
        if (stamp != self._seen or stamp is None) and await self._read(stamp):
            self._save()
            await self._announcement.announce()

    async def _read(self, stamp: tuple[int, int, int] | None) -> bool:
        try:
            entries = await asyncio.to_thread(directory_file.read, self._path)
        except JfeError as error:
            if str(error) != self.trouble:
                self._log.error("directory file not read", extra=fields(error=str(error)))
            self._seen, self._fault = stamp, error
            return False
        self._seen, self._fault = stamp, None
        self._directory.replace(FILE, entries)
        self._log.info("directory file read", extra=fields(file=str(self._path), entries=len(entries)))
        return True

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
