"""A gigabyte of random UDP at a real collector, in a network namespace of its own: it lives, remembers no more for it,
and accounts for every datagram."""

from __future__ import annotations

import random
import socket
import subprocess

from jfe_cni.kernel.namespace import in_fresh_namespace
from tests.overflowd.exports import v5, v5_record
from tests.overflowd.running import Running, running, send

GIGABYTE = 1_000_000_000
LONGEST = 65_000
# What a decoder is chosen by: NetFlow v5 and v9, IPFIX, sFlow, and none.
VERSIONS = (b"\0\5", b"\0\x09", b"\0\x0a", b"\0\0\0\5\0\0\0\1", b"")
MOST_MEMORY = 512 * 1024 * 1024
"""Bytes by which the collector may have grown: what waits for templates (64 MiB), and domains with their templates."""


def test_a_gigabyte_of_random_datagrams_ends_nothing_and_is_all_accounted_for() -> None:
    in_fresh_namespace(_flood)


def _flood() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)
    with running("--netflow", "127.0.0.1:0", "--odds", "1e-12", printed=subprocess.DEVNULL) as collector:
        (port,) = collector.ports
        # What importing takes at the first datagram is none of the flood's.
        send(port, [v5(v5_record("198.51.100.1", "203.0.113.9"))])
        collector.wait_for("flows", 1, format="netflow-v5")
        before = collector.resident()
        sent = 1 + _send_random(port)
        read = _settled(collector, port, sent)
        assert collector.resident() - before < MOST_MEMORY
        assert read > sent / 100
        assert collector.count("cut_off", port=str(port)) > 0
        reasons = ("unknown-version", "malformed", "cut-off", "too-many-exporters")
        assert all(collector.count("dropped", reason=each) > 0 for each in reasons)
        # It goes on as before.
        send(port, [v5(v5_record("198.51.100.1", "203.0.113.9"))] * 3)
        status, last = collector.stop()
    assert (status, last["event"]) == (0, "stopped")


def _send_random(port: int) -> int:
    """How many datagrams, of any length, a gigabyte was."""
    chance, octets, count = random.Random(2016), 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        while octets < GIGABYTE:
            # Half of all octets in the longest that there are, half in such as exporters send.
            rest = chance.randbytes(LONGEST)
            payloads = [chance.choice(VERSIONS) + rest]
            at = 0
            while at < LONGEST:
                length = chance.randrange(1_480)
                payloads.append(chance.choice(VERSIONS) + rest[at : at + length])
                at += length
            for each in payloads:
                sender.send(each)
                octets += len(each)
            count += len(payloads)
    return count


def _settled(collector: Running, port: int, sent: int) -> int:
    """How many were read. The kernel says what it dropped with the next datagram that it did not drop."""
    here, extra = str(port), 0
    while True:
        send(port, [b"last"])
        extra += 1
        collector.wait_for("datagrams", extra, port=here)
        read, dropped = collector.count("datagrams", port=here), collector.count("kernel_dropped", port=here)
        if read + dropped == sent + extra:
            return int(read)
        assert read + dropped < sent + extra
