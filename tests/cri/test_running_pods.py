"""Pods that no plugin of ours was called for: they ran before the agent did, or have the host's network."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cni.cover import check_mutual, is_bare, workload_of, workloads
from tests.cni.network import chain
from tests.cri.conftest import NETWORK, RunPod
from tests.cri.containerd import Containerd
from tests.cri.pods import PodSpec
from tests.e2e.command import jfe
from tests.e2e.talk import goes_both_ways, is_reset, talking
from tests.stage.cluster import Cluster

PORT, LATER_PORT, HOST_PORT = 8080, 8081, 8082


@pytest.fixture
def late(runtime: tuple[Cluster, Containerd]) -> Iterator[Containerd]:
    """The containerd of node a, whose chain has no plugin of ours yet."""
    _, containerd = runtime
    node, version = containerd.node, containerd.release.cni_versions[-1]
    containerd.use(chain(node, NETWORK, version, covered=False))
    yield containerd
    containerd.use(chain(node, NETWORK, version))


def _enrol_all(containerd: Containerd) -> None:
    node = containerd.node
    containerd.use(chain(node, NETWORK, containerd.release.cni_versions[-1]))
    node.run(jfe("enroll", "--all", "--socket", str(node.socket_path)))


def test_connections_of_a_permissive_pod_that_ran_before_stay_and_are_listed_as_bare(
    cluster: Cluster, late: Containerd, run_pod: RunPod
) -> None:
    pod = run_pod(cluster.a, PodSpec("earlier", namespace="calm"))
    assert is_bare(pod)
    with talking(pod, cluster.stranger, PORT) as out, talking(cluster.stranger, pod, PORT) as into:
        _enrol_all(late)
        assert goes_both_ways(out)
        assert goes_both_ways(into)
        report = workload_of(pod)
        assert report is not None
        assert (report.state, report.mode, report.identity) == ("covered", "permissive", pod.identity)
        assert len(report.bare) == 2


def test_connections_of_a_strict_pod_that_ran_before_are_reset(
    cluster: Cluster, late: Containerd, run_pod: RunPod
) -> None:
    pod = run_pod(cluster.a, PodSpec("earlier"))
    with talking(pod, cluster.stranger, PORT) as out, talking(cluster.stranger, pod, PORT) as into:
        _enrol_all(late)
        for connection in (out.client, out.server, into.client, into.server):
            assert is_reset(connection)
    later = run_pod(cluster.b, PodSpec("later"))
    check_mutual(cluster, pod, later, LATER_PORT)
    check_mutual(cluster, later, pod, LATER_PORT)
    pod.remove()
    assert workload_of(pod) is None


def test_a_pod_of_the_host_s_network_is_covered_by_its_cgroup(cluster: Cluster, run_pod: RunPod) -> None:
    node = cluster.b
    server = run_pod(node, PodSpec("in-host", host_network=True))
    server.serve(HOST_PORT)
    assert workloads(node) == []
    words = ("--cgroup", server.cgroup, "--name", "in-host", "--mode", "strict")
    node.run(jfe("enroll", "--socket", str(node.socket_path), *words))
    (report,) = workloads(node)
    assert report.state == "covered"
    cluster.a.know(node, identity=report.identity, port=HOST_PORT)
    client = run_pod(cluster.a, PodSpec("client"))
    asking, word = client.start("client", ["sleep", "1000"]), secrets.token_hex(16)
    with cluster.capture() as wire:
        assert asking.ask(server.ipv4, HOST_PORT, word) == client.ipv4
    assert wire.tls(HOST_PORT)
    assert not wire.contains(word.encode())
    node.unenrol(report.id)
