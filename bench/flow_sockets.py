"""Datagrams from a socket, as collectors get them: overflowd's socket and decoders, and nfdump's nfcapd and sfcapd,
which take them from nowhere else. In a network namespace of their own, on the loopback; what counts is the CPU that a
million flows take the collector, the kernel's part of it included.

nfcapd writes what it decodes into a file, in memory here (tmpfs), in its own format; overflowd leaves it in columns.
Whoever sends waits while much waits in the socket, so that none is dropped: that is looked at, and so is the number of
flows in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.kernel.namespace import in_fresh_namespace
from jfe_cni.overflowd.collector.collect import FEW, PAUSE
from jfe_cni.overflowd.collector.udp import UdpSocket
from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder

PORT = 9_995
# Octets that may wait in the socket (/proc/net/udp counts a datagram as the memory that it takes): well below what each
# has for its buffer. nfcapd gets no more than net.core.rmem_max.
WAITING_FOR_OVERFLOWD, WAITING_FOR_NFDUMP = 16_000_000, 160_000
BURST = 16
SETTLING = 60.0


@dataclass(frozen=True)
class Taken:
    flows: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """A second, on a CPU of its own."""
        return self.flows / self.cpu_seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.flows * 1e6


def by_overflowd(payloads: list[bytes], turns: int) -> Taken:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        command = [sys.executable, "-m", "bench.flow_sockets", folder]
        return in_fresh_namespace(
            lambda: _taken(command, payloads * turns, WAITING_FOR_OVERFLOWD, lambda: _flows_of_overflowd(Path(folder)))
        )


def by_nfdump(name: str, payloads: list[bytes], turns: int) -> Taken:
    program = "sfcapd" if name == "sflow" else "nfcapd"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        command = [program, "-w", folder, "-p", str(PORT), "-b", "127.0.0.1", "-B", "60000000"]
        return in_fresh_namespace(
            lambda: _taken(command, payloads * turns, WAITING_FOR_NFDUMP, lambda: _flows_of_nfdump(Path(folder)))
        )


def _taken(command: Sequence[str], payloads: Sequence[bytes], most_waiting: int, flows: Callable[[], int]) -> Taken:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as collector:
        try:
            _wait(lambda: _queue() is not None)
            before = _cpu_seconds(collector.pid)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", PORT))
                _send(sender, payloads, most_waiting)
            _wait(lambda: _queue() == 0)
            time.sleep(0.2)
            spent = _cpu_seconds(collector.pid) - before
        finally:
            collector.send_signal(signal.SIGTERM)
            collector.wait(SETTLING)
    return Taken(flows(), spent)


def _send(sender: socket.socket, payloads: Sequence[bytes], most_waiting: int) -> None:
    for number, payload in enumerate(payloads):
        if number % BURST == 0:
            while (_queue() or 0) > most_waiting:
                time.sleep(0.0002)
        sender.send(payload)


def _queue() -> int | None:
    """Octets that wait in the collector's socket; None, there is none. One that has dropped anything is of no use."""
    # This thread's own namespace.
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[1].endswith(f":{PORT:04X}"):
                assert words[12] == "0", f"{words[12]} datagrams were dropped"
                return int(words[4].partition(":")[2], 16)
    return None


def _cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + SETTLING
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def _flows_of_nfdump(folder: Path) -> int:
    files = [each for each in folder.iterdir() if each.name.startswith("nfcapd.")]
    flows = 0
    for each in files:
        told = subprocess.run(["nfdump", "-I", "-r", each], check=True, capture_output=True, text=True)
        found = re.search(r"^Flows: (\d+)", told.stdout, re.MULTILINE)
        assert found is not None, told.stdout
        flows += int(found[1])
    return flows


def _flows_of_overflowd(folder: Path) -> int:
    flows: int = json.loads((folder / "flows").read_text())
    return flows


def collect(folder: Path) -> None:
    """What `overflowd run` reads and decodes by, until SIGTERM."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    decoder, flows = Decoder(), 0
    with contextlib.closing(UdpSocket(PORT, "127.0.0.1")) as opened:
        poll = select.poll()
        poll.register(opened.fileno(), select.POLLIN)
        try:
            while True:
                poll.poll()
                datagrams = list(_all_of(opened))
                flows += sum(len(each.flows) for each in decoder.decode(datagrams))
                if len(datagrams) < FEW:
                    time.sleep(PAUSE)
        finally:
            (folder / "flows").write_text(json.dumps(flows))


def _all_of(opened: UdpSocket) -> Iterator[Datagram]:
    while together := opened.receive():
        yield from together


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
