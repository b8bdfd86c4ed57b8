"""A way from the client to the server, and the load that is sent along it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.demo.hosts import Host
from jfe_cni.demo.programs import Program, ProgramEnded, Programs

LOAD = Path(__file__).resolve().parent.parent / "target" / "release" / "jfe-load"
LOAD_SECONDS = 120.0
# The server at the far end of every way.
SERVER_PORT = 8081


@dataclass(frozen=True)
class Way:
    """`dial`: ADDRESS:PORT for the client. `proxies`: the processes between, on both hosts."""

    name: str
    client: Host
    server: Program
    programs: Programs
    dial: str
    proxies: Callable[[], list[int]]

    async def load(self, mode: str, *options: str, cpu: int | None = None) -> dict[str, float]:
        """What jfe-load printed. ProgramEnded where a single connection failed."""
        pin = () if cpu is None else ("taskset", "-c", str(cpu))
        command = (*pin, str(LOAD), mode, self.dial, *options)
        printed = await self.programs.output(
            self.client, f"jfe-load {mode} ({self.name})", *command, seconds=LOAD_SECONDS
        )
        told: dict[str, float] = json.loads(printed)
        return told

    def processes(self) -> list[int]:
        return [*self.proxies(), self.server.process.pid]

    @contextlib.asynccontextmanager
    async def idle(self, connections: int) -> AsyncIterator[None]:
        """So many connections, all the way to the server, held while the body runs."""
        process = await asyncio.create_subprocess_exec(
            *self.client.command(str(LOAD), "idle", self.dial, "--connections", str(connections)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                said = await process.stdout.readline()
            if said.strip() != b"ready":
                raise ProgramEnded(f"jfe-load idle ({self.name}) could not hold {connections} connections")
            yield
        finally:
            process.stdin.close()
            await process.wait()


async def start_server(programs: Programs, server: Host) -> Program:
    """Listens on all addresses: proxies on the same host reach it by loopback."""
    dial = f"0.0.0.0:{SERVER_PORT}"
    program = await programs.start(server, f"server of {server.name}", str(LOAD), "serve", dial)
    await listening(programs, server, program, SERVER_PORT)
    return program


async def listening(programs: Programs, host: Host, program: Program, port: int) -> None:
    async with asyncio.timeout(LOAD_SECONDS):
        while not await programs.output(host, "ss", "ss", "-Hltn", f"sport = :{port}", seconds=LOAD_SECONDS):
            program.check_alive()
            await asyncio.sleep(0.05)
