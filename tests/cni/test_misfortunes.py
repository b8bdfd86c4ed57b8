"""What a node goes through that no runtime plans: callers that leave, disks that are full, namespaces that stay."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jfe_cni.agent.reports import WorkloadReport
from tests.cni.calls import NETWORK, Runtime, answers, body_of, configuration, container, environment
from tests.stage import Host, Stage, eventually

NAMESPACES = """
[namespaces.shop]
mode = "strict"
[namespaces.lab]
mode = "strict"
allow-weaken = true
[namespaces.outside]
mode = "off"
"""


@pytest.fixture
def node(stage: Stage) -> Host:
    file = stage.a.folder / "namespaces.toml"
    file.write_text(NAMESPACES)
    stage.a.start_agent("--cni-namespaces", str(file))
    return stage.a


def workloads(host: Host) -> list[WorkloadReport]:
    return host.ask(lambda agent: agent.workloads())


def leave(pod: Runtime, seconds: float) -> None:
    """ADD by a caller that goes away."""
    body = body_of(
        environment("ADD", container=pod.container, netns=str(pod.namespace.path), pod=pod.pod), configuration()
    )
    head = f"POST /v1/cni HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(str(pod.host.socket_path))
        gone.sendall(head + body)
        threading.Event().wait(seconds)


def test_a_caller_that_goes_away_and_the_delete_that_follows_leave_nothing(node: Host, stage: Stage) -> None:
    """The delete comes while the first is still being undone."""
    with container(stage, node, pod="shop/web") as pod:
        for round_number in range(40):
            leave(pod, round_number % 10 * 0.004)
            assert pod.call("DEL").done
            assert workloads(node) == []
            assert not pod.rules(), f"rules were left in round {round_number}"
        assert pod.call("ADD").done


def test_a_namespace_whose_file_is_gone_stays_covered_as_long_as_somebody_is_in_it(node: Host, stage: Stage) -> None:
    with container(stage, node, pod="shop/web", clean=False) as pod:
        assert pod.call("ADD").done
        sleeper = subprocess.Popen(pod.namespace.command("sleep", "600"))
        try:
            eventually(lambda: _in(pod, sleeper.pid), "it is inside")
            pod.namespace.delete()
            # Longer than it takes to see that a namespace has gone.
            threading.Event().wait(2)
            assert [each.state for each in workloads(node)] == ["covered"]
            tables = subprocess.run(
                ["nsenter", f"--net=/proc/{sleeper.pid}/ns/net", "nft", "list", "tables"],
                check=True,
                capture_output=True,
                text=True,
            )
            assert "inet jfe" in tables.stdout
        finally:
            sleeper.kill()
            sleeper.wait()
        eventually(lambda: workloads(node) == [], "with the last that was in it the workload goes")


def _in(pod: Runtime, pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino == pod.namespace.inode


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Until the end nobody can write another byte there."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        with contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), b"\0")
    try:
        yield
    finally:
        filler.unlink()


def test_pods_are_deleted_where_the_disk_is_full(stage: Stage) -> None:
    state = stage.folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(state)], check=True)
    try:
        stage.a.start_agent("--state-dir", str(state))
        with container(stage, stage.a, pod="shop/web") as pod:
            assert pod.call("ADD").done
            with full_disk(state):
                assert pod.call("DEL").done
                assert not pod.rules()
                assert workloads(stage.a) == []
        stage.a.stop_agent()
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_a_namespace_that_another_container_gets_is_that_containers(node: Host, stage: Stage) -> None:
    """The delete of the one before was never heard: the agent was away."""
    with container(stage, node, pod="lab/first") as first:
        assert first.call("ADD", annotations={"jfe.io/mode": "permissive"}).done
        second = Runtime(node, "second", first.namespace, "shop/second")
        assert second.call("ADD").done
        (workload,) = workloads(node)
        assert (workload.identity, workload.mode) == ("spiffe://jfe.test/ns/shop/pod/second", "strict")
        assert first.call("DEL").done
        assert second.call("CHECK").done
        assert second.call("DEL").done
        assert not second.rules()


def test_one_interface_goes_while_another_comes(node: Host, stage: Stage) -> None:
    """Whichever is first: what was answered with success holds."""
    with container(stage, node, pod="shop/web") as pod, ThreadPoolExecutor(1) as other:
        for _ in range(20):
            assert pod.call("ADD").done
            adding = other.submit(pod.call, "ADD", interface="net1", network="second")
            assert pod.call("DEL").done
            added = adding.result().done
            held = [each.interface for found in workloads(node) for each in found.attachments]
            assert held == (["net1"] if added else [])
            assert pod.call("DEL", interface="net1", network="second").done
            assert not pod.rules()


def test_two_networks_that_name_one_interface_are_let_go_one_by_one(node: Host, stage: Stage) -> None:
    with container(stage, node, pod="shop/web") as pod:
        assert pod.call("ADD").done
        assert pod.call("ADD", network="delegated").done
        assert pod.call("GC", valid=[]).done
        assert pod.rules(), "the other network has it still"
        assert pod.call("DEL", network="delegated").done
        assert not pod.rules()


def test_a_delete_under_a_name_that_the_network_did_not_have_is_a_delete(node: Host, stage: Stage) -> None:
    with container(stage, node, pod="shop/web") as pod:
        assert pod.call("ADD").done
        assert pod.call("DEL", network="renamed").done
        assert not pod.rules()


def test_a_pod_with_several_interfaces_is_found_again_after_the_state_is_lost(node: Host, stage: Stage) -> None:
    results = stage.folder / "results"
    results.mkdir()
    with container(stage, node, pod="shop/web") as pod:
        for network, interface in (("zz", "eth0"), ("aa", "net1")):
            assert pod.call("ADD", network=network, interface=interface).done
            record = {
                "kind": "cniCacheV1",
                "containerId": pod.container,
                "ifName": interface,
                "networkName": network,
                "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"]],
                "netns": str(pod.namespace.path),
            }
            (results / f"{network}-{pod.container}-{interface}").write_text(json.dumps(record))
        (results / "broken").write_text(json.dumps({"kind": "cniCacheV1", "cniArgs": 5}))
        node.stop_agent(signal.SIGKILL)
        for file in node.folder.glob("workloads.db*"):
            file.unlink()
        node.start_agent("--cni-cache-dir", str(stage.folder), "--cni-namespaces", str(node.folder / "namespaces.toml"))
        outcome = node.ask(lambda agent: agent.enrol_running())
        assert (set(outcome.enrolled), outcome.failed) == ({pod.container}, ())
        (workload,) = workloads(node)
        assert {each.interface for each in workload.attachments} == {"eth0", "net1"}
        for network, interface in (("zz", "eth0"), ("aa", "net1")):
            assert pod.call("DEL", network=network, interface=interface).done
        assert not pod.rules()


def test_a_pod_that_was_deleted_while_it_is_looked_for_is_not_brought_back(node: Host, stage: Stage) -> None:
    """Its network's record goes with its DEL: here it is gone when it has been enrolled."""
    with container(stage, node, pod="shop/web") as pod:
        (stage.folder / "results").mkdir()
        record = stage.folder / "results" / f"{NETWORK}-{pod.container}-eth0"
        record.write_text(
            json.dumps(
                {
                    "kind": "cniCacheV1",
                    "containerId": pod.container,
                    "ifName": "eth0",
                    "networkName": NETWORK,
                    "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web"]],
                    "netns": str(pod.namespace.path),
                }
            )
        )
        node.stop_agent()
        node.start_agent("--cni-cache-dir", str(stage.folder))
        asking = threading.Thread(target=lambda: node.ask(lambda agent: agent.enrol_running()))
        asking.start()
        record.unlink()
        asking.join()
        assert workloads(node) == []
        assert not pod.rules()


def test_whoever_asks_an_agent_that_awaits_its_authority_is_told_so(stage: Stage) -> None:
    """Also pods of mode off start then, by what was known of their namespaces before."""
    file = stage.a.folder / "namespaces.toml"
    file.write_text(NAMESPACES)
    stage.a.start_agent("--cni-namespaces", str(file))
    with container(stage, stage.a, "first", pod="outside/web") as pod:
        assert pod.call("ADD").done
    stage.a.stop_agent()
    file.unlink()
    authority = stage.folder / "authority"
    authority.chmod(0o755)
    agent = stage.a.start_agent("--cni-namespaces", str(file), ready=False)
    eventually(lambda: answers(stage.a), "the agent serves its socket", otherwise=agent.output)
    told = stage.a.run(
        [*_jfe(), "status", "--socket", str(stage.a.socket_path)],
        check=False,
    )
    assert told.returncode == 1
    assert "the agent is not ready" in told.stderr.decode()
    assert "authority" in told.stderr.decode()
    with container(stage, stage.a, "second", pod="outside/web") as pod:
        assert pod.call("ADD").done
    authority.chmod(0o700)


def test_status_says_no_where_nothing_is_known_of_the_namespaces(stage: Stage) -> None:
    stage.a.start_agent("--cni-namespaces", str(stage.a.folder / "none.toml"))
    with container(stage, stage.a, clean=False) as pod:
        assert pod.call("STATUS").code == 50


def _jfe() -> list[str]:
    return [sys.executable, "-m", "jfe_cni.cli.main"]
