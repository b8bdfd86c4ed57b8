"""The plugin in a chain of a node's, called by a runtime that is libcni and nothing else."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import pytest

from jfe_cni.rules.model import DEFAULT_MARK_BIT
from tests.cni.cover import PORT, check_mutual, is_bare, start_agent, workload_of, workloads
from tests.cni.network import Network, PlainPod, chain, direct, install_plugins, plugin, write
from tests.cni.nodes import PodMaker, cluster, make_pod
from tests.stage import Failed, eventually
from tests.stage.cluster import Cluster

__all__ = ["cluster", "make_pod"]

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
# CHECK came with 0.4.0, STATUS and GC with 1.1.0.
CHECKED = VERSIONS[1:]
MARK = hex(DEFAULT_MARK_BIT)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pod_is_covered_from_add_to_del(cluster: Cluster, make_pod: PodMaker, version: str) -> None:
    network_a, network_b = (Network(node, "pods", version) for node in cluster.hosts)
    client, server = make_pod(cluster.a), make_pod(cluster.b)
    network_a.add(client)
    network_b.add(server)
    covered = workload_of(client)
    assert covered is not None
    assert (covered.state, covered.mode, covered.identity) == ("covered", "strict", client.identity)
    assert [(each.network, each.interface) for each in covered.attachments] == [("pods", "eth0")]
    assert covered.pod is not None
    assert f"{covered.pod.namespace}/{covered.pod.name}" == client.kubernetes
    check_mutual(cluster, client, server)
    if version in CHECKED:
        network_a.check(client)
    network_a.delete(client)
    network_b.delete(server)
    assert workload_of(client) is None
    assert is_bare(client)
    assert is_bare(server)


def test_a_pod_with_addresses_of_both_versions_is_covered_in_both(cluster: Cluster, make_pod: PodMaker) -> None:
    networks = [Network(node, "both", "1.1.0", dual_stack=True) for node in cluster.hosts]
    client, server = (make_pod(node) for node in cluster.hosts)
    for network, pod in zip(networks, (client, server), strict=True):
        network.add(pod)
    for version in (4, 6):
        check_mutual(cluster, client, server, PORT + version, version=4 if version == 4 else 6)
    for network, pod in zip(networks, (client, server), strict=True):
        network.check(pod)
        network.delete(pod)


def test_annotations_may_be_as_long_as_kubernetes_lets_them_be(cluster: Cluster, make_pod: PodMaker) -> None:
    """256 KiB in all; here as much of it as one variable of cnitool's environment holds."""
    applied = json.dumps({"spec": "line\n" * 10_000})
    network = Network(cluster.a, "pods", "1.1.0")
    pod = make_pod(cluster.a, annotations={"kubectl.kubernetes.io/last-applied-configuration": applied})
    network.add(pod)
    assert workload_of(pod) is not None
    network.delete(pod)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_chain_s_result_is_passed_on_as_it_came(cluster: Cluster, make_pod: PodMaker, version: str) -> None:
    without = Network(cluster.a, "plain", version, covered=False)
    within = Network(cluster.a, "covered", version)
    results = []
    for network in (without, within):
        pod = make_pod(cluster.a)
        results.append(_general(network.add(pod), pod.name))
        network.delete(pod)
    assert results[0] == results[1]


def _general(result: dict[str, Any], name: str) -> Any:
    """Without what differs from pod to pod: its name, its hardware addresses, the name of the link's other end."""
    text = json.dumps(result).replace(name, "NAME")
    text = re.sub(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", text)
    return json.loads(re.sub(r"veth[0-9a-f]{8}", "VETH", text))


def test_what_the_plugin_does_not_know_of_a_result_it_passes_on(cluster: Cluster, make_pod: PodMaker) -> None:
    network = Network(cluster.a, "pods", "1.1.0")
    pod = make_pod(cluster.a)
    result = network.add(pod)
    result |= {"later": {"than": ["this", "plugin", 12345678901234567890]}}
    configuration = {"cniVersion": "1.1.0", "name": "pods", **plugin(cluster.a), "prevResult": result}
    assert json.loads(direct(cluster.a, "ADD", configuration, pod, **_arguments(pod.environment()))) == result
    network.delete(pod)


def _arguments(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name == "CNI_ARGS"}


@pytest.mark.parametrize("version", CHECKED)
def test_check_tells_what_has_gone_since_add(cluster: Cluster, make_pod: PodMaker, version: str) -> None:
    network = Network(cluster.a, "pods", version)
    pod = make_pod(cluster.a)
    network.add(pod)
    network.check(pod)

    # The agent puts it back at once, each time: this is quicker.
    robbed = ("sh", "-c", f"while :; do ip rule del fwmark {MARK}/{MARK}; done")
    thief = pod.spawn(robbed, name="thief")
    complaint = eventually(lambda: _complaint(network, pod), "CHECK fails")
    assert "the IPv4 policy rule" in complaint
    thief.stop()
    eventually(lambda: not _complaint(network, pod), "what was taken is there again")
    network.delete(pod)


def _complaint(network: Network, pod: PlainPod) -> str:
    """Of CHECK; empty where it finds nothing."""
    try:
        network.check(pod)
    except Failed as error:
        return str(error)
    return ""


def test_check_of_a_pod_that_was_never_added_says_so(cluster: Cluster, make_pod: PodMaker) -> None:
    network = Network(cluster.a, "pods", "1.1.0")
    pod = make_pod(cluster.a)
    result = network.add(pod)
    other = make_pod(cluster.a)
    configuration = {"cniVersion": "1.1.0", "name": "pods", **plugin(cluster.a), "prevResult": result}
    with pytest.raises(Failed, match=r'"code": 102, "msg": "eth0 of container .* its ADD never came'):
        direct(cluster.a, "CHECK", configuration, other)
    network.delete(pod)


def test_del_is_done_whatever_was_done_before(cluster: Cluster, make_pod: PodMaker) -> None:
    network = Network(cluster.a, "pods", "1.0.0")
    never, twice, gone = (make_pod(cluster.a) for _ in range(3))
    network.delete(never)
    network.add(twice)
    for _ in range(2):
        network.delete(twice)
    network.add(gone)
    gone.delete()
    network.delete(gone)
    assert workloads(cluster.a) == []


def test_garbage_is_what_no_runtime_knows_any_more(cluster: Cluster, make_pod: PodMaker) -> None:
    network, other = (Network(cluster.a, name, "1.1.0") for name in ("pods", "others"))
    lost, valid, of_another = (make_pod(cluster.a) for _ in range(3))
    for pod in (lost, valid):
        network.add(pod)
    other.add(of_another)
    _collect(network, lost, valid=[valid])
    assert workload_of(lost) is None
    assert is_bare(lost)
    assert workload_of(valid) is not None
    assert workload_of(of_another) is not None
    _collect(network, lost, valid=[])
    assert workload_of(valid) is None
    assert workload_of(of_another) is not None
    for pod in (lost, valid):
        network.delete(pod)
    other.delete(of_another)


def _collect(network: Network, any_pod: PlainPod, *, valid: list[PlainPod]) -> None:
    said = [{"containerID": pod.container, "ifname": "eth0"} for pod in valid]
    configuration = {"cniVersion": "1.1.0", "name": network.name, "cni.dev/valid-attachments": said}
    direct(network.node, "GC", configuration | plugin(network.node), any_pod)


def test_gc_that_does_not_say_who_is_valid_is_refused(cluster: Cluster, make_pod: PodMaker) -> None:
    """It is what cnitool sends. By itself it deletes what libcni has on record before it asks any plugin."""
    network = Network(cluster.a, "pods", "1.1.0")
    lost = make_pod(cluster.a)
    network.add(lost)
    network.forget(lost)
    assert "cni.dev/valid-attachments" in network.refused("gc")
    assert workload_of(lost) is not None
    network.delete(lost)


def test_status_is_the_agent_s(cluster: Cluster) -> None:
    network = Network(cluster.a, "pods", "1.1.0")
    network.status()
    unanswered = Network(cluster.a, "unanswered", "1.1.0")
    conflist = chain(cluster.a, "unanswered", "1.1.0")
    conflist["plugins"][-1] |= {"agentSocket": "/run/nobody.sock"}
    write(cluster.a, conflist)
    assert "/run/nobody.sock" in unanswered.refused("status")


def test_twenty_pods_come_at_once(cluster: Cluster, make_pod: PodMaker) -> None:
    network = Network(cluster.a, "pods", "1.1.0")
    pods = [make_pod(cluster.a) for _ in range(20)]
    failures = _at_once(*((network.add, pod) for pod in pods))
    assert failures == []
    assert {pod.ipv4 for pod in pods} == {each for report in workloads(cluster.a) for each in _ipv4(report.addresses)}
    assert all(report.state == "covered" for report in workloads(cluster.a))
    assert _at_once(*((network.check, pod) for pod in pods)) == []
    assert _at_once(*((network.delete, pod) for pod in pods)) == []
    assert workloads(cluster.a) == []
    assert all(is_bare(pod) for pod in pods)


def _ipv4(addresses: tuple[str, ...]) -> list[str]:
    return [address for address in addresses if ":" not in address and not address.startswith("127.")]


def _at_once(*calls: Any) -> list[str]:
    """Each (function, argument) on a thread of its own; what was raised, in words."""
    failures: list[str] = []

    def call(function: Any, argument: Any) -> None:
        try:
            function(argument)
        except AssertionError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call, args=each) for each in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_whichever_of_add_and_del_comes_first_nothing_half_done_stays(cluster: Cluster, make_pod: PodMaker) -> None:
    """A runtime that gives up on ADD sends DEL at once, and does not wait for the former."""
    network = Network(cluster.a, "pods", "1.0.0")
    pods = [make_pod(cluster.a) for _ in range(8)]
    for index, pod in enumerate(pods):
        adding = cluster.a.spawn(network.command("add", pod), name=f"add-{index}")
        # Each time DEL meets it at another point of its way.
        time.sleep(0.04 * index)
        network.delete(pod)
        added = adding.wait() == 0
        if added and workload_of(pod) is not None:
            # DEL has come and gone before the agent was asked: this is a pod like any other.
            network.delete(pod)
        assert workload_of(pod) is None
        assert is_bare(pod)


def test_a_pod_with_several_interfaces_is_one_workload_as_long_as_it_has_one(
    cluster: Cluster, make_pod: PodMaker
) -> None:
    first, second = (Network(cluster.a, name, "1.0.0") for name in ("pods", "others"))
    second_chain = chain(cluster.a, "others", "1.0.0")
    bridge = second_chain["plugins"][0]
    bridge["isGateway"] = False
    bridge["ipam"] |= {"ranges": [[{"subnet": "198.18.99.0/24"}]], "routes": []}
    write(cluster.a, second_chain)
    pod = make_pod(cluster.a)
    first.add(pod)
    second.add(pod, interface="net1")
    workload = workload_of(pod)
    assert workload is not None
    assert {(each.network, each.interface) for each in workload.attachments} == {("pods", "eth0"), ("others", "net1")}
    assert sorted(_ipv4(workload.addresses)) == sorted([pod.ipv4, "198.18.99.2"])
    first.check(pod)
    second.check(pod, interface="net1")
    first.delete(pod)
    left = workload_of(pod)
    assert left is not None
    assert [(each.network, each.interface) for each in left.attachments] == [("others", "net1")]
    second.check(pod, interface="net1")
    second.delete(pod, interface="net1")
    assert workload_of(pod) is None
    assert is_bare(pod)


def test_a_pod_is_refused_while_the_agent_is_away_and_taken_when_it_is_back(make_pod: PodMaker) -> None:
    with Cluster() as cluster:
        install_plugins(cluster.a)
        network = Network(cluster.a, "pods", "1.1.0")
        pod = make_pod(cluster.a)
        assert str(cluster.a.socket_path) in network.refused("add", pod)
        # As a runtime does: what the chain's other plugins have made goes.
        network.delete(pod)
        start_agent(cluster.a)
        network.add(pod)
        workload = workload_of(pod)
        assert workload is not None
        assert workload.state == "covered"
        network.delete(pod)
