"""Staying joined: the folders are watched, and whatever another changes is looked at and mended."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from jfe_cni.agent.log import fields
from jfe_cni.cni import placement
from jfe_cni.cni.folder_lock import FolderLock
from jfe_cni.cni.installer import Installer, NoNetworkError, Order
from jfe_cni.errors import HostError, JfeError
from jfe_cni.kernel.inotify import Inotify

# Looked at without any notification: the folders may lie where inotify sees nothing (network file systems).
PERIOD_SECONDS = 1.0
# After each look, so that no rival can keep a CPU busy with us. Short: a pod that starts meanwhile starts without us.
PAUSE_SECONDS = 0.01
# A rival may mend in turn: after so many looks in a row that had something to mend, one longer pause.
MENDED_IN_A_ROW, LONGER_PAUSE_SECONDS = 10, 0.25


class Watch:
    """`plugin` may be replaced by a newer one meanwhile: it is placed then."""

    def __init__(self, order: Order, installer: Installer, log: logging.Logger) -> None:
        self._order = order
        self._installer = installer
        self._log = log
        self._fault = ""
        self._way = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What can't be done now is logged once and tried again.

        Raises ConflictError where another watches the same folder, HostError where nothing can be watched."""
        await asyncio.to_thread(self._make_folder)
        with FolderLock(self._order.config_dir) as lock, Inotify() as inotify:
            placement.sweep(self._order.config_dir, *self._order.bin_dirs)
            in_a_row = 0
            while not stop.is_set():
                for folder in self._folders():
                    inotify.add(folder)
                inotify.changed.clear()
                lock.renew()
                if await self._look():
                    in_a_row = (in_a_row + 1) % MENDED_IN_A_ROW
                    await _first(stop, seconds=PAUSE_SECONDS if in_a_row else LONGER_PAUSE_SECONDS)
                else:
                    in_a_row = 0
                    await _first(stop, inotify.changed, seconds=PERIOD_SECONDS)
                    # For the rest of a burst.
                    await _first(stop, seconds=PAUSE_SECONDS)

    def _make_folder(self) -> None:
        """Empty, it is no network to any runtime; made, it can be locked and watched."""
        try:
            self._order.config_dir.mkdir(mode=placement.FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"{self._order.config_dir} can't be made: {error.strerror}", remedy="run as root, or name another"
            ) from error

    def _folders(self) -> list[Path]:
        drop_ins = [path for path in self._order.config_dir.glob("*/") if path.is_dir()]
        return [self._order.config_dir, *drop_ins, *self._order.bin_dirs]

    async def _look(self) -> bool:
        """Whether there may be more to do at once."""
        try:
            joined = await self._installer.look()
        except JfeError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                self._log.warning("not joined", extra=fields(error=self._fault))
            # Its coming is announced; whether another fault has gone has to be tried.
            return not isinstance(error, NoNetworkError)
        if joined is None:
            return True
        self._fault = ""
        for path in joined.written:
            self._log.info("mended" if self._way else "written", extra=fields(file=str(path)))
        if joined.way.value != self._way:
            self._way = joined.way.value
            self._log.info("joined", extra=fields(network=joined.network, file=str(joined.file), chain=self._way))
        return bool(joined.written) or joined.moving


async def _first(*events: asyncio.Event, seconds: float) -> None:
    """Until one of them is set, at most so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
