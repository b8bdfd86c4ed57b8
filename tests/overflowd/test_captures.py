"""Captures in their formats, whole and damaged, and `overflowd read` on them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.overflowd import captures
from jfe_cni.overflowd.cli.read import print_flows, print_notices
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.notices.notice import Notice, decode
from jfe_cni.overflowd.selection.odds import LARGEST
from tests.overflowd.exports import (
    FLOW_FIELDS,
    NOW,
    Spec,
    a_set,
    flow_record,
    ipfix,
    ipfix_template,
    v5,
    v5_record,
)
from tests.overflowd.frames import ethernet, ipv4, tcp, udp
from tests.overflowd.test_sflow import raw_header, sample, sflow

PAYLOAD = v5(v5_record("198.51.100.1", "203.0.113.9"))
FRAME = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1000, 2055, PAYLOAD)))
OTHER = ethernet(ipv4("192.0.2.1", "192.0.2.2", 6, tcp(1, 2, 2)))
FRAGMENT = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1, 2), offset=9))
FRAMES = (FRAME, OTHER, FRAGMENT, FRAME)
# Its flows have the time that the datagram has.
SAMPLED = sflow(sample(raw_header(ethernet(ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1, 2, 2))))))


def pcap(order: str = "<", *, nanoseconds: bool = False) -> bytes:
    head = struct.pack(order + "IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    fraction = 250_000_000 if nanoseconds else 250_000
    return head + b"".join(struct.pack(order + "IIII", NOW, fraction, len(each), len(each)) + each for each in FRAMES)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<", resolution: int = 9, offset: int = 0) -> bytes:
    """With one interface, whose times are in parts of a second (if_tsresol), from so many seconds on (if_tsoffset)."""
    head = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(order + "HHB3xHHqHH", 9, 1, resolution, 14, 8, offset, 0, 0)
    return head + block(order, 1, struct.pack(order + "HHI", 1, 0, 0) + options)


def packet(frame: bytes, ticks: int = NOW * 1_000_000_000 + 250_000_000, order: str = "<", kind: int = 6) -> bytes:
    """Enhanced; or, of kind 2, as it was before, with drops that are not told."""
    number = struct.pack(order + "HH", 0, 65_535) if kind == 2 else bytes(4)
    head = struct.pack(order + "IIII", ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, kind, number + head + frame)


def pcapng(order: str = "<", kind: int = 6) -> bytes:
    """Times in nanoseconds, a block with names, and two sections."""
    first, second, third, fourth = (packet(each, order=order, kind=kind) for each in FRAMES)
    return section(order) + first + block(order, 4, bytes(4)) + second + section(order) + third + fourth


FILES = {
    "pcap": pcap(),
    "pcap-other-order": pcap(">"),
    "pcap-nanoseconds": pcap(nanoseconds=True),
    "pcapng": pcapng(),
    "pcapng-other-order": pcapng(">"),
    "pcapng-obsolete-blocks": pcapng(kind=2),
    "pcapng-obsolete-blocks-other-order": pcapng(">", kind=2),
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


@pytest.mark.parametrize("order", ["<", ">"])
def test_times_may_begin_elsewhere(order: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    # From a year before, and after it.
    path.write_bytes(section(order, offset=-NOW) + packet(FRAMES[0], 2 * NOW * 1_000_000_000, order))
    (datagram,) = captures.read(path, Drops())
    assert datagram.at == NOW * 1_000_000
    path.write_bytes(section(order, offset=-NOW) + packet(FRAMES[0], 1, order))
    with pytest.raises(RequestError, match="capture"):
        list(captures.read(path, Drops()))


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
    said_of(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(resolution=st.integers(0, 255), ticks=st.integers(0, 2**64 - 1), payload=st.sampled_from([PAYLOAD, SAMPLED]))
@example(resolution=0, ticks=0xFFFFFFFF << 32, payload=PAYLOAD)
@example(resolution=0, ticks=0xFFFFFFFF << 32, payload=SAMPLED)
@example(resolution=6, ticks=7 * NOW * 1_000_000, payload=PAYLOAD)
@example(resolution=0, ticks=4_102_444_799, payload=PAYLOAD)
def test_a_packet_of_any_time_is_told_of_or_refused(
    resolution: int, ticks: int, payload: bytes, tmp_path: Path
) -> None:
    frame = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1000, 2055, payload)))
    path = tmp_path / "capture"
    path.write_bytes(section(resolution=resolution) + packet(frame, ticks))
    parts = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    told = said_of(path)
    # 2100; and finer than 18 digits nobody's times are.
    if parts <= 10**18:
        assert told == (1 if ticks // parts < 4_102_444_800 else None)


def said_of(path: Path) -> int | None:
    """How many records `overflowd read` tells of, when it has chosen of them, too; None, it refuses the file."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        try:
            print_notices(str(path), LARGEST, seed=1)
            printed.truncate(printed.seek(0))
            print_flows(str(path))
        except RequestError:
            return None
    return len([json.loads(line, parse_constant=pytest.fail) for line in printed.getvalue().splitlines()])


@pytest.mark.parametrize("kind", [0x0BAD, 0x80000001])
def test_a_block_of_an_unknown_kind_may_hold_a_packet_and_is_counted(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(section() + block("<", kind, bytes(20) + FRAME) + packet(FRAME))
    drops = Drops()
    assert len(list(captures.read(path, drops))) == 1
    assert drops == {Dropped.UNKNOWN_FORMAT: 1}


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
    for odds in ("0.5", "0", "nan", "inf", "-inf"):
        refused = overflowd("read", str(path), "--odds", odds)
        assert (refused.returncode, refused.stdout, "--odds" in refused.stderr) == (64, "", True)


def test_numbers_that_json_has_none_for_are_told_in_words(tmp_path: Path) -> None:
    # samplingProbability, three times.
    template = ipfix_template(256, (*FLOW_FIELDS, *[Spec(311, 8)] * 2, Spec(311, 4)))
    values = struct.pack(">ddf", math.nan, -math.inf, 0.5)
    payload = ipfix(template, a_set(256, flow_record("198.51.100.1", "203.0.113.9") + values))
    path = tmp_path / "capture"
    path.write_bytes(section() + packet(ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1000, 4739, payload)))))
    ended = overflowd("read", str(path), "--flows")
    (line,) = [json.loads(line, parse_constant=pytest.fail) for line in ended.stdout.splitlines()]
    assert line["elements"]["samplingProbability"] == ["nan", "-inf", 0.5]


@pytest.mark.parametrize("words", [["--flows"], ["--odds", "0.01"], ["--help"]])
def test_a_full_disk_is_said_in_a_line(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(
        pcap() + b"".join(struct.pack("<IIII", NOW, 0, len(FRAME), len(FRAME)) + FRAME for _ in range(500))
    )
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "read", str(path), *words]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.endswith("overflowd: standard output takes no more: No space left on device\n")


def test_a_file_that_is_no_capture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_text("no capture at all")
    ended = overflowd("read", str(path), "--flows")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is no capture" in ended.stderr
    assert overflowd("read", str(tmp_path / "missing"), "--flows").returncode == 64
