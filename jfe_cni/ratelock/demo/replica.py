"""One replica of the service: a process with a name, which can be killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping

from jfe_cni.errors import HostError

_START_SECONDS = 60.0
# Longer than the service gives its own requests to end (`stop_timeout`).
_STOP_SECONDS = 30.0

Echo = Callable[[str, str], None]
"""Name of the replica, and a line that it logged."""


class Replica:
    """`settings`: as of the environment (RATELOCK_…); nothing else of the service's settings is taken along."""

    def __init__(self, name: str, settings: Mapping[str, str], echo: Echo | None = None) -> None:
        self.name = name
        self.url: str | None = None
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("RATELOCK_")} | dict(settings)
        self._echo = echo
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves at `url` when this returns. Raises HostError."""
        serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jfe_cni.ratelock.cli.main", "serve"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # An interrupt at the terminal is for whoever stops it in order.
            process_group=0,
        )
        assert self._process.stderr is not None
        self._reading = asyncio.create_task(self._read(self._process.stderr, serving))
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.url = await serving
        except TimeoutError:
            raise HostError(f"replica {self.name} does not start", remedy="try again on a less busy host") from None

    async def kill(self) -> None:
        """As by SIGKILL: it has no say in it."""
        await self._end(lambda process: process.kill())

    async def stop(self) -> None:
        """As by SIGTERM: the requests that run are ended first. Done already is done."""
        await self._end(lambda process: process.terminate())

    async def _end(self, end: Callable[[asyncio.subprocess.Process], None]) -> None:
        process, self._process, self.url = self._process, None, None
        if process is None:
            return
        if process.returncode is None:
            end(process)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading

    async def _read(self, lines: asyncio.StreamReader, serving: asyncio.Future[str]) -> None:
        said: list[str] = []
        async for raw in lines:
            line = raw.decode(errors="replace").rstrip()
            if self._echo is not None:
                self._echo(self.name, line)
            if not serving.done():
                said.append(line)
                event = _event(line)
                if event.get("event") == "serving":
                    serving.set_result(str(event["url"]))
        if not serving.done():
            serving.set_exception(
                HostError(f"replica {self.name} ended: {' '.join(said)}", remedy="see what it says, and try again")
            )


def _event(line: str) -> Mapping[str, object]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
