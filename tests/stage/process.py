"""A program that a test has started and will end, by its process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stage.deadline import DEADLINE, eventually

END = 10.0


class Process:
    """Runs in a session of its own; what it prints goes to the file `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("wb") as written:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status, minus N for signal N; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, text: str, *, seconds: float = DEADLINE) -> None:
        """Waits until `text` is in its output. AssertionError if it ends before, or never says it."""

        def said() -> bool:
            if text in self.output():
                return True
            assert self.alive, self._ended(f"before it said {text!r}")
            return False

        eventually(said, f"{self.command[:6]} says {text!r}", seconds=seconds, otherwise=self.output)

    def check_alive(self, doing: str) -> None:
        assert self.alive, self._ended(f"while {doing}")

    def wait(self, seconds: float = DEADLINE) -> int:
        """Its exit status."""
        return self._process.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks by signal, after ten seconds kills it and what is left of its session. Its exit status."""
        if self.alive:
            self.send(number)
        try:
            return self._process.wait(END)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return self._process.wait(END)

    def _ended(self, when: str) -> str:
        return f"ended with status {self.status} {when}: {' '.join(self.command)}\n{self.output()}"
