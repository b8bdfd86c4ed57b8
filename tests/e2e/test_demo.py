"""`jfe demo` as a person runs it: what it promises holds, and nothing is left however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEYS = {
    "client_address",
    "server_address",
    "server_port",
    "server_saw_address",
    "clear_text_on_wire_before",
    "clear_text_on_wire_after",
    "tls_version",
    "cipher",
    "key_exchange",
    "client_identity",
    "server_identity",
    "connect_ratio",
    "round_trip_ratio",
    "throughput_ratio",
    "left_behind",
}


@dataclass(frozen=True)
class Shown:
    found: dict[str, Any]
    status: int
    pcap: Path


def demo(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "jfe_cni.cli.main", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    pcap = tmp_path_factory.mktemp("pcap")
    process = demo("--json", "--pcap", str(pcap))
    printed, complaint = process.communicate(timeout=120)
    assert printed, complaint
    return Shown(json.loads(printed), process.returncode, pcap)


def tshark(file: Path, *arguments: str) -> list[str]:
    read = subprocess.run(
        ["tshark", "-r", str(file), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return read.stdout.splitlines()


def left_on_this_host() -> dict[str, list[str]]:
    """Everything that only a demonstration makes."""

    def lines(*command: str) -> list[str]:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if "jfe-demo" in line]

    return {
        "namespaces": lines("ip", "netns", "list"),
        "processes": lines("ps", "-eo", "args"),
        "cgroups": [str(p) for root in ("", "unified") for p in Path("/sys/fs/cgroup", root).glob("jfe/jfe-demo*")],
        "files": [str(path) for path in Path("/tmp").glob("jfe-demo-*")],
    }


NOTHING: dict[str, list[str]] = {"namespaces": [], "processes": [], "cgroups": [], "files": []}


def test_every_promise_holds_and_nothing_is_left_behind(shown: Shown) -> None:
    assert set(shown.found) >= KEYS
    assert [promise for promise, held in shown.found["promises"].items() if not held] == []
    assert shown.found["left_behind"] == []
    assert shown.status == 0
    assert left_on_this_host() == NOTHING


def test_the_server_saw_the_client_itself(shown: Shown) -> None:
    assert shown.found["server_saw_address"] == shown.found["client_address"]


def test_it_is_tls_1_3_with_a_key_exchange_that_outlasts_quantum_computers(shown: Shown) -> None:
    assert shown.found["tls_version"] == "TLSv1.3"
    assert shown.found["key_exchange"] == "X25519MLKEM768"
    assert "GCM" in shown.found["cipher"]


def test_each_end_has_an_identity_of_its_own(shown: Shown) -> None:
    assert shown.found["client_identity"].startswith("spiffe://")
    assert shown.found["client_identity"] != shown.found["server_identity"]


def test_ratios_are_measured(shown: Shown) -> None:
    assert all(shown.found[f"{what}_ratio"] > 0 for what in ("connect", "round_trip", "throughput"))


def test_tshark_finds_http_on_the_bare_wire(shown: Shown) -> None:
    assert tshark(shown.pcap / "before.pcap", "-Y", "http.request")


def test_tshark_finds_tls_between_the_unchanged_addresses_and_no_http(shown: Shown) -> None:
    after = shown.pcap / "after.pcap"
    port = shown.found["server_port"]
    as_tls = ("-d", f"tcp.port=={port},tls")
    ends = {
        tuple(line.split())
        for line in tshark(after, *as_tls, "-Y", "tls", "-T", "fields", "-e", "ip.src", "-e", "ip.dst")
    }
    client, server = shown.found["client_address"], shown.found["server_address"]
    assert ends == {(client, server), (server, client)}
    hello = tshark(after, *as_tls, "-Y", f"tls.handshake.type == 1 && tcp.dstport == {port}")
    assert hello
    assert tshark(after, "-d", f"tcp.port=={port},http", "-Y", "http") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["a web server, unmodified", "an agent and an upgrader", "under cover: measured"])
def test_interrupted_at_any_step_it_leaves_nothing(number: signal.Signals, step: str) -> None:
    process = demo()
    wait_for(process, step)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert "left behind" not in complaint
    assert left_on_this_host() == NOTHING


@pytest.mark.parametrize("victim", ["http.server", "jfe_cni.cli.main agent", "jfe-upgrader --control"])
def test_when_one_of_its_programs_is_killed_it_says_so_and_leaves_nothing(victim: str) -> None:
    process = demo()
    wait_for(process, "under cover: measured")
    for pid in processes_with(victim):
        os.kill(pid, signal.SIGKILL)
    _, complaint = process.communicate(timeout=90)
    assert process.returncode in ({0, 1} if "upgrader" in victim else {1}), complaint
    assert "Traceback" not in complaint
    assert left_on_this_host() == NOTHING


def test_what_a_killed_demonstration_left_is_taken_away_by_the_next() -> None:
    process = demo()
    wait_for(process, "an agent and an upgrader")
    process.kill()
    process.communicate()
    following = demo("--json")
    printed, complaint = following.communicate(timeout=120)
    assert following.returncode == 0, complaint
    assert json.loads(printed)["left_behind"] == []
    assert left_on_this_host() == NOTHING


def wait_for(process: "subprocess.Popen[str]", step: str) -> None:
    """Until the demonstration has said that this step begins, and a little into it."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if step in line:
            time.sleep(0.3)
            return
    pytest.fail(f"the demonstration ended before {step!r}: {''.join(said)}")


def processes_with(words: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if words in arguments and re.search(rb"JFE_DEMO=jfe-demo-\d+", environment):
            found.append(int(entry.name))
    return found
