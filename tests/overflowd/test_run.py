"""`overflowd run`: a process, with real sockets. Without --send it says what it would send, and sends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.overflowd.cli.printed import Printed
from jfe_cni.overflowd.cli.published import Published
from jfe_cni.overflowd.collector.service import CutShort, opened
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import Notice, decode, new_nonce
from jfe_cni.overflowd.selection.suspicion import Side
from jfe_cni.overflowd.settings import SETTINGS
from tests.overflowd.exports import (
    FLOW_FIELDS,
    a_set,
    flow_record,
    ipfix,
    ipfix_template,
    v5,
    v5_record,
    v9,
    v9_template,
)
from tests.overflowd.frames import ethernet, ipv4, tcp, udp
from tests.overflowd.running import running, send
from tests.overflowd.test_notices import NOTICE
from tests.overflowd.test_sflow import raw_header, sample, sflow

SURE = ("--odds", "0.01")
BIG = 1_000_000
V5 = v5(v5_record("198.51.100.1", "203.0.113.9", packets=BIG))
V9 = v9(v9_template(256, FLOW_FIELDS), a_set(256, flow_record("198.51.100.2", "203.0.113.9", packets=BIG)))
IPFIX = ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, flow_record("198.51.100.3", "203.0.113.9", packets=BIG)))
SFLOW = sflow(*[sample(raw_header(ethernet(ipv4("198.51.100.4", "203.0.113.4", 6, tcp(1, 2, 2)))))] * 20)


def test_what_exporters_tell_becomes_notices_whatever_port_it_comes_to() -> None:
    ports = ("--netflow", "127.0.0.1:0", "--ipfix", "[::1]:0", "--sflow", ":0", "--sflow", "127.0.0.1:0")
    with running(*ports, *SURE) as collector:
        netflow, ipfix_port, both, sflow_port = collector.ports
        send(netflow, [V5, V9])
        send(ipfix_port, [IPFIX], "::1")
        send(both, [SFLOW], "::1")
        send(sflow_port, [SFLOW] * 2)
        said = collector.notices(least=4)
        collector.wait_for("flows", 3 * 20, format="sflow")
        sources = {each["flow"]["source"] for each in said}
        assert {"198.51.100.1", "198.51.100.2", "198.51.100.3"} <= sources
        assert all(isinstance(decode(json.dumps(each).encode()), Notice) for each in said)
        status, last = collector.stop()
    assert (status, last["event"], last["datagrams"]) == (0, "stopped", 2 + 1 + 1 + 2)


def test_a_cluster_learns_of_its_health_and_anybody_its_keys(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "keys", "rotate", "--key-file", f"{tmp_path}/keys.json"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with running("--netflow", "127.0.0.1:0", "--key-file", f"{tmp_path}/keys.json") as collector:
        assert json.loads(collector.get("/healthz")) == {"status": "alive"}
        assert json.loads(collector.get("/readyz")) == {"status": "ready"}
        published = json.loads(collector.get("/.well-known/overflowd/keys.json"))
        assert published == json.loads(made.stdout)
        assert len(published["keys"]) == 2
        assert all("d" not in each for each in published["keys"])
        send(collector.ports[0], [V5, b"garbage"])
        collector.wait_for("dropped", 1, reason="unknown-version")
        assert collector.count("datagrams", port=str(collector.ports[0])) == 2
        assert collector.count("packets") == BIG
        with pytest.raises(urllib.error.HTTPError):
            collector.get("/elsewhere")


def test_without_a_key_a_dry_run_makes_none(tmp_path: Path) -> None:
    with running("--netflow", "127.0.0.1:0", "--key-file", f"{tmp_path}/keys.json") as collector:
        assert json.loads(collector.get("/.well-known/overflowd/keys.json")) == {"keys": []}
    assert not list(tmp_path.iterdir())


def test_keys_that_cannot_be_read_are_away_for_now_and_why_is_logged_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys.rotate(file, 0)
    whole = file.read_bytes()
    with running("--netflow", "127.0.0.1:0", "--key-file", str(file)) as collector:
        published = collector.get(keys.PUBLISHED)
        file.write_text("{}")
        for _ in range(3):
            with pytest.raises(urllib.error.HTTPError) as refused:
                collector.get(keys.PUBLISHED)
            assert refused.value.code == 503
            assert refused.value.headers["Cache-Control"] is None
            assert str(tmp_path) not in refused.value.read().decode()
        file.write_bytes(whole)
        assert collector.get(keys.PUBLISHED) == published
        collector.stop()
    assert [each["event"] for each in collector.log] == ["collecting", "keys not published", "stopped"]
    assert "holds no keys of overflowd" in collector.log[1]["reason"]


def test_who_reads_the_keys_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A pipe in the place of the file: whoever opens it waits until there is something to read."""
    file = tmp_path / "keys.json"
    os.mkfifo(file, 0o600)
    with running("--netflow", "127.0.0.1:0", "--key-file", str(file)) as collector, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(collector.get, keys.PUBLISHED)
        # Returns when it has been opened for reading.
        with file.open("wb"):
            assert json.loads(collector.get("/healthz")) == {"status": "alive"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked.result(60)
        assert refused.value.code == 503


async def test_who_signs_publishes_no_empty_set_and_makes_no_keys_in_publishing(tmp_path: Path) -> None:
    published = Published(tmp_path / "keys.json", needed=True)
    with pytest.raises(IdentityError, match="can't be read"):
        await published()
    assert not list(tmp_path.iterdir())


def test_what_two_routers_tell_of_one_packet_is_told_of_once() -> None:
    with running("--netflow", ":0", *SURE) as collector:
        port = collector.ports[0]
        send(port, [V5])
        collector.wait_for("flows", 1, format="netflow-v5")
        send(port, [V5], "::1")
        collector.wait_for("flows", 2, format="netflow-v5")
        # Of the one that told first, the next slice.
        send(port, [V5])
        collector.wait_for("notices", 2, **{"class": "traffic"})
        assert collector.count("flows", format="netflow-v5") == 3


def test_a_forged_source_is_told_of_with_the_side_that_it_came_by(tmp_path: Path) -> None:
    """The records of v5 are from interface 4 to interface 5."""
    routes = tmp_path / "routes"
    routes.write_text("198.51.100.0/24 9 4@192.0.2.1\n")
    for words, expected in (
        (["--inside", "198.51.100.0/24", "--external", "4"], Side.OUTSIDE),
        (["--inside", "192.0.2.0/24", "--external", "5@127.0.0.1"], Side.INSIDE),
        (["--routes", str(routes)], Side.OFF_ROUTE),
    ):
        with running("--netflow", "127.0.0.1:0", *SURE, *words) as collector:
            send(collector.ports[0], [V5])
            (notice,) = collector.notices(1)
        assert (notice["class"], notice["evidence"]) == ("spoofed-source", [expected.value])


def test_exporters_that_are_not_on_the_list_are_not_heard() -> None:
    with running("--netflow", ":0", "--exporters", "127.0.0.0/8,192.0.2.0/24", *SURE) as collector:
        send(collector.ports[0], [V5], "::1")
        send(collector.ports[0], [V9])
        collector.wait_for("dropped", 1, reason="not-allowed")
        assert [each["flow"]["source"] for each in collector.notices(1)] == ["198.51.100.2"]
        assert collector.count("flows", format="netflow-v5") == 0


def test_what_waits_in_the_sockets_at_sigterm_is_taken() -> None:
    with running("--netflow", "127.0.0.1:0", "--sflow", "127.0.0.1:0", "--odds", "1e-12") as collector:
        collector.process.send_signal(signal.SIGSTOP)
        for port in collector.ports:
            send(port, [V5] * 3_000)
        collector.process.send_signal(signal.SIGTERM)
        collector.process.send_signal(signal.SIGCONT)
        status, last = collector.ended()
    assert (status, last["datagrams"]) == (0, 6_000)


def test_who_has_read_enough_ends_it_without_a_word() -> None:
    with running("--netflow", "127.0.0.1:0", *SURE) as collector:
        assert collector.process.stdout is not None
        collector.process.stdout.close()
        send(collector.ports[0], [V5])
        status, last = collector.ended()
        assert (status, last["event"]) == (0, "collecting")


def test_a_reader_that_has_stalled_holds_no_end_up_and_what_was_not_printed_is_told() -> None:
    with running("--netflow", "127.0.0.1:0", *SURE, "--stop-timeout", "1") as collector:
        # More notices than a pipe holds; what is logged of them is not.
        send(collector.ports[0], [v5(*[v5_record("198.51.100.1", "203.0.113.9", packets=BIG)] * 30)] * 10)
        collector.wait_for("datagrams", 1, port=str(collector.ports[0]))
        status, last = collector.stop()
        assert collector.process.stdout is not None
        printed = collector.process.stdout.read()
    assert (status, last["event"]) == (0, "stopped")
    lines = printed.splitlines(keepends=True)
    assert all(isinstance(decode(each), Notice) for each in lines)
    assert len(lines) + last["lost"] == last["notices"] == 300
    assert 0 < last["lost"] == sum(each["event"] == "notice lost" for each in collector.log)


async def test_what_was_not_printed_when_it_was_cancelled_is_known_and_nothing_comes_after() -> None:
    notices = [dataclasses.replace(NOTICE, nonce=new_nonce()) for _ in range(500)]
    reading, writing = os.pipe()
    printed = Printed(writing)
    with pytest.raises(CutShort) as cut_short:
        async with asyncio.timeout(1):
            await printed.put(notices)
    rest = cut_short.value.rest
    assert list(rest) == notices[-len(rest) :]
    with pytest.raises(CutShort) as again:
        await printed.put(notices)
    assert list(again.value.rest) == notices
    os.set_blocking(reading, False)
    came = b""
    with contextlib.suppress(BlockingIOError):
        while len(came) < 500_000:
            came += os.read(reading, 65_536)
    # One was under way.
    assert came.count(b"\n") - (500 - len(rest)) in {0, 1}
    os.close(reading)
    os.close(writing)


def test_a_disk_that_is_full_ends_it_with_a_line() -> None:
    with Path("/dev/full").open("wb") as full, running("--netflow", ":0", *SURE, printed=full.fileno()) as collector:
        send(collector.ports[0], [V5])
        assert collector.process.wait(60) == 1
        assert collector.process.stderr is not None
        said = collector.process.stderr.read()
    assert said == b"overflowd: standard output takes no more: No space left on device\n"


def test_head_of_what_a_capture_says_ends_well(tmp_path: Path) -> None:
    """More than a pipe holds, of which one line is read."""
    path = tmp_path / "capture"
    frame = ethernet(
        ipv4("192.0.2.1", "192.0.2.9", 17, udp(2_055, 2_055, v5(*[v5_record("198.51.100.1", "203.0.113.9")] * 20)))
    )
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
        + 300 * (struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    )
    shell = f"set -o pipefail; {sys.executable} -m jfe_cni.overflowd.cli.main read {path} --flows | head -n 1"
    ended = subprocess.run(["bash", "-c", shell], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["source"] == "198.51.100.1"


def test_two_collectors_share_a_port_if_both_are_told_to() -> None:
    with running("--netflow", "127.0.0.1:0", "--share-ports") as first:
        port = first.ports[0]
        with running("--netflow", f"127.0.0.1:{port}", environment={"OVERFLOWD_SHARE_PORTS": "true"}) as second:
            assert second.ports == [port]
            # Each by its own port, which the kernel makes the choice by.
            for _ in range(64):
                send(port, [V5])
            first.wait_for("datagrams", 1, port=str(port))
            second.wait_for("datagrams", 1, port=str(port))
            third = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "run", "--netflow", f"127.0.0.1:{port}"]
            ended = subprocess.run(third, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"UDP port {port} can't be opened" in ended.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"netflow": "2055"}, "is nothing to listen on"),
        ({"netflow": "router:2055"}, "is nothing to listen on"),
        ({"netflow": "10.0.0.0/8:2055"}, "is nothing to listen on"),
        ({"netflow": ":2055", "ipfix": "127.0.0.1:2055"}, "in each other's way"),
        ({"netflow": "[::1]:2055", "sflow": "[0::1]:2055"}, "in each other's way"),
        ({"netflow": ":0", "exporters": "router"}, "--exporters"),
        ({"netflow": ":0", "tunnels": "10.0.0.1/8"}, "--tunnels"),
        ({"netflow": ":0", "odds": "0.5"}, "--odds"),
        ({"netflow": ":0", "odds": "many"}, "--odds can't be 'many'"),
        ({"netflow": ":0", "odds": "nan"}, "--odds"),
        ({"netflow": ":0", "stop_timeout": "inf"}, "--stop-timeout"),
        ({"netflow": ":0", "duplicate_window": "nan"}, "--duplicate-window"),
        ({"netflow": ":0", "fan_in": "1065"}, "--fan-in must be 1,064 at most"),
        ({"netflow": ":0", "most_templates": "0"}, "--most-templates"),
        ({"netflow": ":0", "count_at": "border"}, "--count-at border"),
        ({"netflow": ":0", "external": "eth0"}, "is no interface"),
        ({"netflow": ":0", "routes": "/nowhere"}, "can't be read"),
        ({"netflow": ":0", "log_format": "xml"}, "--log-format can't be 'xml'"),
        ({"netflow": ":0", "send": "perhaps"}, "--send can't be 'perhaps'"),
    ],
)
async def test_what_cannot_be_is_said_with_what_to_do(given: dict[str, object], expected: str) -> None:
    with pytest.raises(RequestError, match=expected) as raised, opened(SETTINGS.read(given, {}), Printed(-1)):
        pass
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 64, "there is nothing to listen on: name --netflow :2055, --ipfix :4739 or --sflow :6343"),
        (["--odds", "0"], 64, "--odds must be above 0"),
        (["--config", "settings"], 64, "most_fields in settings can't be inf"),
        (["--netflow", ":0", "--listen", "10.0.0.0/8:8080"], 64, "is nothing to listen on: write ADDRESS:PORT"),
        (["--netflow", ":0", "--listen", "192.0.2.7:0"], 1, "Cannot assign requested address: name an address of this"),
        (["--netflow", "192.0.2.7:0"], 1, "Cannot assign requested address: name an address of this host"),
    ],
)
def test_what_cannot_be_ends_in_a_line_and_wrong_usage_with_a_status_of_its_own(
    words: list[str], status: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "settings").write_text("most_fields = inf\n")
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "run", *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith("overflowd: ")
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "overflowd.toml"
    file.write_text('netflow = [":1", ":2"]\nodds = 1e-3\ntransit = true\nfan_in = 7\nroutes = "/here"\n')
    environment = {"OVERFLOWD_ODDS": "1e-4", "OVERFLOWD_SFLOW": ":3, :4", "OVERFLOWD_SERVICE_HOST": "10.0.0.1"}
    found = SETTINGS.read({"odds": "1e-5", "netflow": (), "external": ("7", "8@192.0.2.1")}, environment, file)
    assert (found.odds, found.netflow, found.sflow, found.transit) == (1e-5, (":1", ":2"), (":3", ":4"), True)
    assert (found.fan_in, found.routes, found.external) == (7, Path("/here"), ("7", "8@192.0.2.1"))
    assert not {"port", "port_2055_udp", "service_host", "service_port"} & {each.name for each in SETTINGS.fields}


def test_every_setting_is_in_the_documents() -> None:
    page = Path(__file__).parents[2] / "docs/overflowd-collector.md"
    assert SETTINGS.table() in page.read_text(), "run python dev/overflowd_documents.py"
