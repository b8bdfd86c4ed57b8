"""`python -m bench.flows`: how many flows a second overflowd's decoders make of what exporters send, beside goflow2's,
and what CPU a million takes; both from memory to memory, on one CPU, in turns. Then the same from a socket, beside
nfdump's collectors (`flow_sockets.py`): they read from nothing else.

The datagrams are those of a busy router, made here: 1,000 of each kind, each with as many records as a packet of 1,500
bytes holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import rich.table
from rich.console import Console

from bench.flow_sockets import Taken, by_nfdump, by_overflowd
from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder

GOFLOW2 = Path("target/go/bin/goflow2-for-bench")
DATAGRAMS = 1_000
# As many as wait in a socket's buffer when a collector under load comes to it.
TOGETHER = 250
ROUNDS = 5
SECONDS = 2.0
# How often the datagrams are sent to a socket.
SOCKET_TURNS = 20
NOW, UPTIME = 1_700_000_000, 3_600_000

# Elements and their lengths, of a router's template: addresses, ports, counts, times, interfaces, masks, AS numbers.
_TEMPLATE = (
    (8, 4), (12, 4), (15, 4), (10, 4), (14, 4), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (6, 1), (4, 1),
    (5, 1), (61, 1), (16, 4), (17, 4), (9, 1), (13, 1), (89, 1), (48, 1),
)  # fmt: skip
_HEADINGS = (
    "flows/s", "goflow2 flows/s", "CPU s/10⁶", "goflow2 CPU s/10⁶", "from a socket CPU s/10⁶", "nfdump CPU s/10⁶",
)  # fmt: skip
_PER_DATAGRAM = {"v5": 30, "v9": 24, "ipfix": 24, "sflow": 6}


@dataclass(frozen=True)
class Told:
    flows: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.flows / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.flows * 1e6


@dataclass
class Seen:
    ours: list[Told] = field(default_factory=list)
    theirs: list[Told] = field(default_factory=list)

    from_socket: list[Taken] = field(default_factory=list)
    nfdump: list[Taken] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of flows by the CPU that they take: a neighbour on this machine takes from both, and not at the same time."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return statistics.median(theirs.cpu_per_million / ours.cpu_per_million for ours, theirs in pairs)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.flows", description="Decoding, beside goflow2.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="For a program.")
    asked = parser.parse_args(words)
    seen = measured(asked.rounds)
    if asked.json:
        print(json.dumps({name: _figures(each) for name, each in seen.items()}))
        return
    figures = {name: _figures(each) for name, each in seen.items()}
    table = rich.table.Table("", *(f"flows_{name}_vs_goflow2" for name in figures))
    for heading in (*_HEADINGS, "ratio"):
        values = [each[heading] for each in figures.values()]
        table.add_row(heading, *(f"{value:,.0f}" if "flows/s" in heading else f"{value:.3g}" for value in values))
    Console().print(table)


def _figures(seen: Seen) -> dict[str, float]:
    """Medians."""
    ways = (seen.ours, seen.theirs, seen.from_socket, seen.nfdump)
    rates = [statistics.median(each.rate for each in way) for way in ways]
    costs = [statistics.median(each.cpu_per_million for each in way) for way in ways]
    return {**dict(zip(_HEADINGS, (*rates[:2], *costs), strict=True)), "ratio": seen.ratio}


def measured(rounds: int) -> dict[str, Seen]:
    """By the name of each format. This process stays on one CPU."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in MADE.items():
            payloads = make(random.Random(2016))
            path = Path(folder) / name
            path.write_bytes(b"".join(struct.pack(">I", len(each)) + each for each in payloads))
            seen = Seen()
            for number in range(rounds):
                if number % 2:
                    seen.ours.append(_ours(payloads))
                seen.theirs.append(_theirs(path))
                if number % 2 == 0:
                    seen.ours.append(_ours(payloads))
                seen.from_socket.append(by_overflowd(payloads, SOCKET_TURNS))
                seen.nfdump.append(by_nfdump(name, payloads, SOCKET_TURNS))
            found[name] = seen
    return found


def _ours(payloads: Sequence[bytes]) -> Told:
    decoder = Decoder()
    exporter = IPv4Address("192.0.2.1")
    datagrams = [Datagram(exporter, 2055, NOW * 1_000_000, each) for each in payloads]
    batches = [datagrams[at : at + TOGETHER] for at in range(0, len(datagrams), TOGETHER)]

    def one_pass() -> int:
        return sum(len(found.flows) for together in batches for found in decoder.decode(together))

    one_pass()
    flows, began, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < SECONDS:
        flows += one_pass()
    return Told(flows, time.perf_counter() - began, time.process_time() - spent)


def _theirs(path: Path) -> Told:
    ended = subprocess.run([GOFLOW2.absolute(), path, str(SECONDS)], check=True, capture_output=True, text=True)
    return Told(**json.loads(ended.stdout))


def _v5(chance: random.Random) -> list[bytes]:
    head = struct.pack(">HHIIIIBBH", 5, _PER_DATAGRAM["v5"], UPTIME, NOW, 0, 1, 0, 0, 1 << 14 | 1_000)
    return [head + b"".join(_v5_record(chance) for _ in range(_PER_DATAGRAM["v5"])) for _ in range(DATAGRAMS)]


def _v5_record(chance: random.Random) -> bytes:
    counts = struct.pack(">HHIIII", 1, 2, chance.randrange(1, 9), chance.randrange(40, 9_999), UPTIME - 9_000, UPTIME)
    return (
        chance.randbytes(8)
        + bytes(4)
        + counts
        + chance.randbytes(4)
        + struct.pack(">BBBBHHBBH", 0, 16, 6, 0, 1, 2, 24, 24, 0)
    )


def _record(chance: random.Random) -> bytes:
    fixed = bytes(4) + struct.pack(
        ">IIIIII", 1, 2, chance.randrange(1, 9), chance.randrange(40, 9_999), UPTIME - 9_000, UPTIME
    )
    tail = struct.pack(">BBBBIIBBBB", 16, 6, 0, 0, 1, 2, 24, 24, 64, 1)
    return chance.randbytes(8) + fixed + chance.randbytes(4) + tail


def _set(number: int, body: bytes) -> bytes:
    return struct.pack(">HH", number, 4 + len(body)) + body


def _template() -> bytes:
    fields = b"".join(struct.pack(">HH", *each) for each in _TEMPLATE)
    return struct.pack(">HH", 256, len(_TEMPLATE)) + fields


def _v9(chance: random.Random) -> list[bytes]:
    def message(body: bytes) -> bytes:
        return struct.pack(">HHIIII", 9, 1, UPTIME, NOW, 1, 7) + body

    data = [b"".join(_record(chance) for _ in range(_PER_DATAGRAM["v9"])) for _ in range(DATAGRAMS)]
    return [message(_set(0, _template())), *(message(_set(256, each)) for each in data)]


def _ipfix(chance: random.Random) -> list[bytes]:
    def message(body: bytes) -> bytes:
        return struct.pack(">HHIII", 10, 16 + len(body), NOW, 1, 7) + body

    data = [b"".join(_record(chance) for _ in range(_PER_DATAGRAM["ipfix"])) for _ in range(DATAGRAMS)]
    return [message(_set(2, _template())), *(message(_set(256, each)) for each in data)]


def _sflow(chance: random.Random) -> list[bytes]:
    count = _PER_DATAGRAM["sflow"]
    head = struct.pack(">III", 5, 1, 0xC0000201) + struct.pack(">IIII", 0, 1, UPTIME, count)
    return [head + b"".join(_sample(chance) for _ in range(count)) for _ in range(DATAGRAMS)]


def _sample(chance: random.Random) -> bytes:
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 1_486, 1, 0, 64, 6, 0) + chance.randbytes(8)
    tcp = chance.randbytes(4) + struct.pack(">IIBBHHH", 1, 2, 0x50, 16, 100, 0, 0)
    header = (bytes(12) + b"\x08\x00" + ip + tcp).ljust(128, b"x")
    raw = struct.pack(">IIIIII", 1, 16 + len(header), 1, 1_500, 4, len(header)) + header
    body = struct.pack(">IIIIIIII", 1, 1, 1_000, 1_000_000, 0, 1, 2, 1) + raw
    return struct.pack(">II", 1, len(body)) + body


MADE: dict[str, Callable[[random.Random], list[bytes]]] = {"v5": _v5, "v9": _v9, "ipfix": _ipfix, "sflow": _sflow}

if __name__ == "__main__":
    main()
