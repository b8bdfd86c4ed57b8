"""Keeps one upgrader running and connected: takes over the one that is there, else starts one, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from jfe_cni.agent import upgrader
from jfe_cni.agent.control import Control
from jfe_cni.agent.log import fields
from jfe_cni.agent.messages import Event
from jfe_cni.errors import JfeError, UpgraderError

# The first restart is at once, since a strict workload is cut off until then; one that keeps ending is not started
# more often than this.
_BACKOFF_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
# One that lived this long counts as having worked.
_STABLE_SECONDS = 30.0
# How long a request waits for an upgrader that is being replaced.
_WAIT_SECONDS = 10.0


class Supervisor:
    """`feed` says everything that should exist to a new connection; `lost` is told that a connection has ended."""

    def __init__(
        self,
        command: upgrader.Command,
        *,
        on_event: Callable[[Event], None],
        feed: Callable[[Control], Awaitable[None]],
        lost: Callable[[], None],
        restarted: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self._command = command
        self._on_event = on_event
        self._feed = feed
        self._lost = lost
        self._restarted = restarted
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._ready = asyncio.Event()
        self.pid: int | None = None
        self.restarts = 0
        self.trouble: str | None = None

    @property
    def connected(self) -> bool:
        return self._ready.is_set()

    async def control(self) -> Control:
        """The connection, once the upgrader has been told everything. Raises UpgraderError after 10 s without."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._ready.wait()
        except TimeoutError as error:
            raise UpgraderError(
                f"there is no upgrader: {self.trouble or 'it is being started'}", remedy=f"see {self._command.log}"
            ) from error
        if self._control is None:
            raise UpgraderError("the upgrader went away this moment", remedy="try again")
        return self._control

    async def run(self) -> None:
        """Until cancelled. The upgrader stays as it is then: see `stop`."""
        attempt = 0
        started = False
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                control, fresh = await self._connect_or_start()
                if fresh and started:
                    self.restarts += 1
                    self._restarted()
                started = True
                await self._attend(control)
            except JfeError as error:
                self.trouble = str(error)
                self._log.error("upgrader failed", extra=fields(error=str(error)))
            attempt = 0 if loop.time() - began > _STABLE_SECONDS else attempt + 1
            await asyncio.sleep(_BACKOFF_SECONDS[min(attempt - 1, len(_BACKOFF_SECONDS) - 1)] if attempt else 0.0)

    async def stop(self) -> None:
        """Ends the upgrader, and with it every connection that it relays."""
        if self.pid is not None:
            await upgrader.stop(self.pid)
        await self._clear_away()
        self._command.control.unlink(missing_ok=True)
        self.pid = None

    async def _attend(self, control: Control) -> None:
        """Feeds the upgrader and waits for the end of the connection."""
        self.pid = control.peer_pid()
        try:
            await self._feed(control)
            self._control = control
            self._ready.set()
            self.trouble = None
            self._log.info("upgrader connected", extra=fields(pid=self.pid))
            await control.closed.wait()
            self.trouble = f"it ended: {upgrader.last_line(self._command.log)}"
            self._log.warning("upgrader went away", extra=fields(pid=self.pid))
        finally:
            self._control = None
            self._ready.clear()
            self._lost()
            await control.close()
            self._reap()

    async def _connect_or_start(self) -> tuple[Control, bool]:
        with contextlib.suppress(OSError):
            return await Control.connect(self._command.control, self._on_event), False
        await self._clear_away()
        self._process = await upgrader.start(self._command)
        try:
            return await Control.connect(self._command.control, self._on_event), True
        except OSError as error:
            raise UpgraderError(f"the upgrader does not listen: {error.strerror}") from error

    async def _clear_away(self) -> None:
        """Whoever is left in the upgrader's cgroup answers no more: a broker that hangs, workers without one."""
        for pid in _members(self._command.cgroup):
            await upgrader.stop(pid)
        self._reap()

    def _reap(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._process = None


def _members(cgroup: Path) -> list[int]:
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []
