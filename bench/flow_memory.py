"""`python -m bench.flow_memory`: what decoding and choosing hold of flows that are all distinct: resident memory after
the first million, and after ten; and the CPU that they take."""

from __future__ import annotations

import json
import os
import struct
import time
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np

from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.notices.notice import Reporter
from jfe_cni.overflowd.selection.duplicates import Duplicates, Observer
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import Draw
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import Site

MILLION = 1_000_000
PER_DATAGRAM, TOGETHER = 30, 256
NOW, UPTIME = 1_700_000_000, 3_600_000
EXPORTERS = 4


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    decoder, chance = Decoder(), np.random.Generator(np.random.PCG64(2016))
    selector = Selector(Site(), Reporter("", "", 0, ""), Draw(1), FanIn(1), Duplicates(1))
    flows, notices, spent, after = 0, 0, 0.0, {}
    for million in range(1, 11):
        while flows < million * MILLION:
            exporter = IPv4Address(f"192.0.2.{flows % EXPORTERS}")
            at = (NOW + flows // 100_000) * MILLION
            datagrams = [Datagram(exporter, 2055, at, each) for each in _datagrams(chance)]
            began = time.process_time()
            for batch in decoder.decode(datagrams):
                flows += len(batch.flows)
                notices += len(selector.notices(batch.flows, at, Observer(batch.agent, batch.domain, batch.exporter)))
            spent += time.process_time() - began
        after[million] = _resident()
    told = {"flows": flows, "notices": notices, "cpu_seconds": spent, "mb_1": after[1] / 1e6, "mb_10": after[10] / 1e6}
    print(json.dumps(told))


def _datagrams(chance: np.random.Generator) -> list[bytes]:
    """NetFlow v5, of addresses and ports that nobody else has: 12 random bytes of each record."""
    records = np.zeros((TOGETHER * PER_DATAGRAM, 48), "u1")
    records[:, :8] = chance.integers(0, 256, (len(records), 8), "u1")
    records[:, 19], records[:, 23] = 10, 100
    records[:, 32:36] = chance.integers(0, 256, (len(records), 4), "u1")
    records[:, 38] = 17
    head = struct.pack(">HHIIIIBBH", 5, PER_DATAGRAM, UPTIME, NOW, 0, 1, 0, 0, 0)
    return [head + each.tobytes() for each in records.reshape(TOGETHER, -1)]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
