"""Captures in their formats, whole and damaged, and `overflowd read` on them."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.overflowd import captures
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.notices.notice import Notice, decode
from tests.overflowd.exports import NOW, v5, v5_record
from tests.overflowd.frames import ethernet, ipv4, tcp, udp

PAYLOAD = v5(v5_record("198.51.100.1", "203.0.113.9"))
FRAME = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1000, 2055, PAYLOAD)))
OTHER = ethernet(ipv4("192.0.2.1", "192.0.2.2", 6, tcp(1, 2, 2)))
FRAGMENT = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1, 2), offset=9))
FRAMES = (FRAME, OTHER, FRAGMENT, FRAME)


def pcap(order: str = "<", *, nanoseconds: bool = False) -> bytes:
    head = struct.pack(order + "IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    fraction = 250_000_000 if nanoseconds else 250_000
    return head + b"".join(struct.pack(order + "IIII", NOW, fraction, len(each), len(each)) + each for each in FRAMES)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(order: str = "<") -> bytes:
    """Times in nanoseconds, a block of a kind that nobody knows, and two sections."""
    section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(order, 1, struct.pack(order + "HHIHHB3xHH", 1, 0, 0, 9, 1, 9, 0, 0))
    at = NOW * 1_000_000_000 + 250_000_000
    packets = [
        block(order, 6, struct.pack(order + "IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(each), len(each)) + each)
        for each in FRAMES
    ]
    first = section + interface + packets[0] + block(order, 0x0BAD, b"abc") + packets[1]
    return first + section + interface + packets[2] + packets[3]


FILES = {
    "pcap": pcap(),
    "pcap-other-order": pcap(">"),
    "pcap-nanoseconds": pcap(nanoseconds=True),
    "pcapng": pcapng(),
    "pcapng-other-order": pcapng(">"),
    "gzip": gzip.compress(pcap()),
}


@pytest.mark.parametrize("name", FILES)
def test_all_udp_is_read_and_the_rest_is_counted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(FILES[name])
    drops = Drops()
    datagrams = list(captures.read(path, drops))
    assert [each.payload for each in datagrams] == [PAYLOAD, PAYLOAD]
    assert {(str(each.exporter), each.port, each.at) for each in datagrams} == {
        ("192.0.2.1", 2055, NOW * 1_000_000 + 250_000)
    }
    assert drops == {Dropped.NO_UDP: 1, Dropped.FRAGMENT: 1}


@pytest.mark.parametrize("name", ["pcap", "pcapng"])
def test_a_last_packet_that_is_cut_off_is_counted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(FILES[name][:-10])
    drops = Drops()
    assert len(list(captures.read(path, drops))) == 1
    assert drops[Dropped.CUT_OFF] == 1


@pytest.mark.parametrize("content", [b"", b"no capture at all", gzip.compress(pcap())[:-20], gzip.compress(b"x" * 99)])
def test_what_is_no_capture_is_said_to_be(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="capture"):
        list(captures.read(path, Drops()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["pcap", "pcapng"]), data=st.data())
def test_a_capture_with_any_bytes_changed_is_read_or_refused(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(FILES[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(4, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[at] = value
    path = tmp_path / "capture"
    path.write_bytes(content)
    with contextlib.suppress(RequestError):
        for each in captures.read(path, Drops()):
            assert len(each.payload) <= len(content)


def overflowd(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_record_is_a_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap())
    ended = overflowd("read", str(path), "--flows")
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(lines) == 2
    assert lines[0]["format"] == "netflow-v5"
    assert (lines[0]["source"], lines[0]["packets"], lines[0]["octets"]) == ("198.51.100.1", 3, 180)
    assert lines[0]["elements"]["sourceTransportPort"] == 1234
    assert "1 not decoded: fragment" in ended.stderr


def test_what_would_be_told_of_is_printed_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(
        pcap() + b"".join(struct.pack("<IIII", NOW, 0, len(FRAME), len(FRAME)) + FRAME for _ in range(200))
    )
    printed = [overflowd("read", str(path), "--odds", "0.01", "--seed", "7").stdout for _ in range(2)]
    notices = [decode(line.encode()) for line in printed[0].splitlines()]
    # 202 records of three packets each, at odds of one in a hundred a packet.
    assert 0 < len(notices) < 20
    assert all(isinstance(each, Notice) and each.flow.packets == 3 for each in notices)
    flows = [[json.loads(line)["flow"] for line in text.splitlines()] for text in printed]
    assert flows[0] == flows[1]
    assert overflowd("read", str(path), "--odds", "0.5").returncode == 64


def test_a_file_that_is_no_capture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_text("no capture at all")
    ended = overflowd("read", str(path), "--flows")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is no capture" in ended.stderr
    assert overflowd("read", str(tmp_path / "missing"), "--flows").returncode == 64
