"""`overflowd run`, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTING, ENDING = 30.0, 60.0


@dataclass
class Running:
    """`ports`: in the order of the flags. `log`: what it has said on standard error so far."""

    process: subprocess.Popen[bytes]
    log: list[dict[str, Any]] = field(default_factory=list)
    _begun: dict[int, bytes] = field(default_factory=dict)

    @property
    def ports(self) -> list[int]:
        found: list[int] = self.log[0]["ports"]
        return found

    def get(self, path: str) -> str:
        """Raises urllib.error.HTTPError."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.log[0]['listen']}{path}", timeout=ENDING) as answer:
            text: str = answer.read().decode()
        return text

    def count(self, name: str, **labels: str) -> float:
        """Of /metrics; 0, where it has not been counted."""
        named = ",".join(f'{label}="{value}"' for label, value in labels.items())
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"overflowd_{name}_total{'{' + named + '}' if named else ''} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def wait_for(self, name: str, value: float, **labels: str) -> None:
        until = time.monotonic() + ENDING
        while self.count(name, **labels) < value:
            assert time.monotonic() < until, f"{name} stays at {self.count(name, **labels)}"
            time.sleep(0.02)

    def notices(self, least: int) -> list[dict[str, Any]]:
        """Those that were printed since the last call, as soon as there are that many."""
        assert self.process.stdout is not None
        return [json.loads(line) for line in self._lines(self.process.stdout.fileno(), least)]

    def resident(self) -> int:
        """Bytes of memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> tuple[int, dict[str, Any]]:
        """By SIGTERM. The exit status, and what it said last."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, dict[str, Any]]:
        assert self.process.stderr is not None
        status = self.process.wait(ENDING)
        self.log += [json.loads(line) for line in self.process.stderr.read().splitlines()]
        return status, self.log[-1]

    def read_log(self, least: int) -> None:
        assert self.process.stderr is not None
        self.log += [json.loads(line) for line in self._lines(self.process.stderr.fileno(), least)]

    def _lines(self, number: int, least: int) -> list[bytes]:
        begun, until = self._begun.get(number, b""), time.monotonic() + ENDING
        with selectors.DefaultSelector() as selector:
            selector.register(number, selectors.EVENT_READ)
            while begun.count(b"\n") < least:
                assert selector.select(max(0.0, until - time.monotonic())), f"it says no more than {begun!r}"
                came = os.read(number, 1 << 20)
                assert came, f"it ended: {begun!r}"
                begun += came
        *whole, self._begun[number] = begun.split(b"\n")
        return whole


@contextlib.contextmanager
def running(
    *words: str, environment: Mapping[str, str] | None = None, printed: int = subprocess.PIPE
) -> Iterator[Running]:
    """With health, on a port that is free. `printed`: where notices go; a pipe that nobody reads holds it up. What of
    it runs in the end is killed."""
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "run", "--listen", "127.0.0.1:0", *words]
    started = subprocess.Popen(
        command, stdout=printed, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})}
    )
    with started:
        try:
            found = Running(started)
            found.read_log(1)
            yield found
        finally:
            started.kill()
            started.wait()


def send(port: int, payloads: Sequence[bytes], host: str = "127.0.0.1", source: str = "") -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for each in payloads:
            sender.sendto(each, (host, port))
