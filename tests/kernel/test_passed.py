"""What no cover is for passes in either mode, and is counted: UDP, SCTP, ICMP and the rest, each way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.agent.objects import Mode
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.kernel.cgroups import CgroupTree
from tests.kernel import lab
from tests.kernel.agent_node import Node
from tests.kernel.lab import Host
from tests.kernel.test_agent import PORT
from tests.kernel.test_agent_host import enrol, made, node_on

UDP_ECHO = """
server = socket.socket(family(address), socket.SOCK_DGRAM); server.bind((address, port)); told("ready")
while True:
    server.sendto(*server.recvfrom(1000))
"""

UDP_ASK = """
asker = socket.socket(family(address), socket.SOCK_DGRAM); asker.settimeout(PATIENCE)
for _ in range(3):
    asker.sendto(b"x" * 100, (address, port)); assert asker.recv(1000) == b"x" * 100
told("heard")
"""

OTHERS = """
echo = struct.pack("!BBHHH", 8, 0, 0xf7fd, 1, 1)
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); icmp.settimeout(PATIENCE)
icmp.sendto(echo, (address, 0)); icmp.recv(1000)
for protocol in (132, 47):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol).sendto(bytes(20), (address, 0))
told("sent")
"""

Counts = dict[tuple[str, str], tuple[int, int]]


@pytest.fixture
def node(peer: Host, tmp_path: Path, tree: CgroupTree) -> Iterator[Node]:
    yield from node_on(peer, tmp_path / "node", tmp_path, tree)


def counts(report: WorkloadReport) -> Counts:
    return {(each.way, each.protocol): (each.packets, each.bytes) for each in report.passed}


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_a_namespaces_datagrams_pass_and_are_counted_each_way(node: Node, pod: Host, peer: Host, mode: Mode) -> None:
    node.enrol(pod, mode)
    lab.ready(peer.python(UDP_ECHO, address=peer.ipv4, port=PORT))
    assert pod.run(UDP_ASK, address=peer.ipv4, port=PORT) == "heard"
    assert pod.run(OTHERS, address=peer.ipv4) == "sent"
    found = counts(node.workload(pod))
    # 100 bytes below 8 of UDP and 20 of IPv4.
    assert found["sent", "udp"] == found["received", "udp"] == (3, 3 * 128)
    assert found["sent", "sctp"] == found["sent", "other"] == (1, 40)
    assert found["sent", "icmp"][0] >= 1
    assert found["received", "icmp"][0] >= 1


def test_ipv6_is_counted_alike_and_what_stays_inside_is_not(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    for host, address in ((peer, peer.ipv6), (pod, pod.ipv6)):
        lab.ready(host.python(UDP_ECHO, address=address, port=PORT))
        assert pod.run(UDP_ASK, address=address, port=PORT) == "heard"
    assert counts(node.workload(pod))["sent", "udp"] == (3, 3 * 148)
    assert counts(node.workload(pod))["received", "udp"] == (3, 3 * 148)


def test_the_counts_go_on_when_the_rules_are_loaded_anew(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    lab.ready(peer.python(UDP_ECHO, address=peer.ipv4, port=PORT))
    assert pod.run(UDP_ASK, address=peer.ipv4, port=PORT) == "heard"
    assert counts(node.workload(pod))["sent", "udp"][0] == 3
    pod.command("nft", "flush", "ruleset")
    lab.until(lambda: bool(node.logged("rules mended")), "the flush is not noticed")
    assert pod.run(UDP_ASK, address=peer.ipv4, port=PORT) == "heard"
    assert counts(node.workload(pod))["sent", "udp"][0] == 6


def test_counting_is_no_change_of_the_rules(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    lab.ready(peer.python(UDP_ECHO, address=peer.ipv4, port=PORT))
    assert pod.run(UDP_ASK, address=peer.ipv4, port=PORT) == "heard"
    assert all(rules.whole for rules in node.ask("rules"))
    assert not node.logged("rules-changed")


def test_of_the_hosts_commands_those_under_cover_are_counted_and_nobody_else(
    node: Node,
    pod: Host,
    peer: Host,
    tree: CgroupTree,
) -> None:
    """`peer` is the node; `pod` is a host that is not enrolled."""
    cgroups = [made(tree, node, name) for name in ("one", "two", "neither")]
    for cgroup in cgroups[:2]:
        enrol(node, cgroup)
    lab.ready(pod.python(UDP_ECHO, address=pod.ipv4, port=PORT))
    for cgroup, times in zip(cgroups, (1, 2, 4), strict=True):
        for _ in range(times):
            assert peer.run(UDP_ASK, cgroup=cgroup, address=pod.ipv4, port=PORT) == "heard"
    # Nor is what they say to one another.
    lab.ready(peer.python(UDP_ECHO, cgroup=cgroups[0], address=peer.ipv4, port=PORT))
    assert peer.run(UDP_ASK, cgroup=cgroups[1], address=peer.ipv4, port=PORT) == "heard"
    reports = {report.id: counts(report) for report in node.status().workloads}
    for name, packets in (("one", 3), ("two", 6)):
        assert reports[name]["sent", "udp"] == reports[name]["received", "udp"] == (packets, packets * 128)


def test_the_metrics_tell_of_it(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    lab.ready(peer.python(UDP_ECHO, address=peer.ipv4, port=PORT))
    assert pod.run(UDP_ASK, address=peer.ipv4, port=PORT) == "heard"
    told = node.ask("metrics").splitlines()
    labels = f'{{protocol="udp",way="sent",workload="{pod.name}"}}'
    assert f"jfe_passed_packets_total{labels} 3.0" in told
    assert f"jfe_passed_bytes_total{labels} 384.0" in told
