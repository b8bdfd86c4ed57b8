"""The programs of a demonstration: started in their hosts, watched, and ended, however the demonstration ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.demo.hosts import Host
from jfe_cni.demo.traces import MARK_VARIABLE
from jfe_cni.errors import JfeError

# An agent takes rules away and ends its upgrader before it goes.
END_SECONDS = 10.0
POLL_SECONDS = 0.02


class ProgramEnded(JfeError):
    """A program of the demonstration is gone before its time, or does not do what it is there for."""


@dataclass
class Program:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    def check_alive(self) -> None:
        if self.process.returncode is not None:
            raise ProgramEnded(
                f"{self.name} has ended with status {self.process.returncode}: {self.last_words()}",
                remedy="run `jfe doctor`, then the demonstration again",
            )

    def last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or "it said nothing"

    async def said(self, words: str, seconds: float) -> None:
        """Waits until `words` are in what the program has written."""
        await self.until(lambda: words in self.log.read_text(errors="replace"), f"to say {words!r}", seconds)

    async def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self.check_alive()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise ProgramEnded(
                f"{self.name} was given {seconds:.0f} s {what}: {self.last_words()}",
                remedy="run the demonstration again when this host has less to do",
            ) from error

    async def end(self, number: signal.Signals) -> None:
        """Asks by signal; after ten seconds it is killed."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class Programs:
    """`async with Programs(demo, folder) as programs:` at the end all are gone, the last first."""

    def __init__(self, demo: str, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {MARK_VARIABLE: demo, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        self._started: list[Program] = []

    async def __aenter__(self) -> Programs:
        return self

    async def __aexit__(self, *_: object) -> None:
        for program in reversed(self._started):
            await program.end(signal.SIGTERM)

    def check_alive(self) -> None:
        for program in self._started:
            program.check_alive()

    async def start(self, host: Host, name: str, *command: str) -> Program:
        """In a session of its own: the terminal's Ctrl-C is for the demonstration, which ends them in order."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as written:
            process = await asyncio.create_subprocess_exec(
                *host.command(*command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        program = Program(name, process, log)
        self._started.append(program)
        return program

    async def end(self, program: Program, number: signal.Signals) -> None:
        """Before the others, on purpose."""
        self._started.remove(program)
        await program.end(number)

    async def output(self, host: Host, name: str, *command: str, seconds: float) -> bytes:
        """What a program that ends by itself has printed."""
        process = await asyncio.create_subprocess_exec(
            *host.command(*command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                printed, complaint = await process.communicate()
        except TimeoutError as error:
            raise ProgramEnded(
                f"{name} has not ended within {seconds:.0f} s", remedy="run the demonstration again"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            raise ProgramEnded(
                f"{name} ended with status {process.returncode}: {complaint.decode(errors='replace').strip()[-500:]}",
                remedy="run `jfe doctor`, then the demonstration again",
            )
        return printed
