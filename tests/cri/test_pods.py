"""Pods that containerd runs, under cover from their first packet on."""

from __future__ import annotations

import re
import secrets

import pytest

from tests.cni.cover import introduce, is_bare, workload_of
from tests.cni.network import chain
from tests.cri.conftest import NETWORK, RunPod
from tests.cri.containerd import Containerd
from tests.cri.crictl import Crictl
from tests.cri.pods import PodSpec, annotated, refused
from tests.stage import Failed, eventually
from tests.stage.cluster import Cluster

PORT, BARE_PORT = 8080, 8081


@pytest.mark.parametrize("which", ["newest", "the one before"])
def test_two_pods_talk_in_tls_and_the_server_sees_the_client_s_address(
    runtime: tuple[Cluster, Containerd], run_pod: RunPod, which: str
) -> None:
    cluster, containerd = runtime
    version = containerd.release.cni_versions[-1 if which == "newest" else 0]
    containerd.use(chain(cluster.a, NETWORK, version))
    client, server = run_pod(cluster.a, PodSpec("client")), run_pod(cluster.b, PodSpec("server"))
    introduce(server, to=cluster.a)
    server.serve(PORT)
    asking = client.start("client", ["sleep", "1000"])
    word = secrets.token_hex(16)
    with cluster.capture() as wire:
        assert asking.ask(server.ipv4, PORT, word) == client.ipv4
    assert wire.tls(PORT)
    assert not wire.contains(word.encode())
    assert cluster.a.told(direction="outbound", reason="mutual", peer=server.identity)
    assert cluster.b.told(direction="inbound", reason="mutual", peer=client.identity)
    for pod in (client, server):
        report = workload_of(pod)
        assert report is not None
        assert (report.state, report.mode, report.identity) == ("covered", "strict", pod.identity)
        pod.remove()
        assert workload_of(pod) is None
        assert not pod.path.exists()


def test_a_container_whose_first_act_is_to_connect_says_nothing_in_clear(cluster: Cluster, run_pod: RunPod) -> None:
    server = run_pod(cluster.b, PodSpec("server"))
    introduce(server, to=cluster.a)
    server.serve(PORT)
    word = secrets.token_hex(16)
    with cluster.capture() as wire:
        client = run_pod(cluster.a, PodSpec("hasty"))
        url = f"http://{server.ipv4}:{PORT}/cgi-bin/who?{word}"
        hasty = client.start("hasty", ["wget", "-q", "-O", "-", url])
        eventually(lambda: word in hasty.output(), "the answer has come", otherwise=hasty.output)
    assert hasty.output().split() == [client.ipv4, word]
    assert wire.tls(PORT)
    assert not wire.contains(word.encode())


def test_a_namespace_that_allows_it_lets_a_pod_except_a_port(cluster: Cluster, run_pod: RunPod) -> None:
    # A stranger to the client, which as a strict pod would not speak to it.
    server = run_pod(cluster.b, PodSpec("open", namespace="calm"))
    for port in (PORT, BARE_PORT):
        server.serve(port)
    client = run_pod(cluster.a, annotated(PodSpec("client"), exclude_outbound_ports=str(BARE_PORT)))
    asking = client.start("client", ["sleep", "1000"])
    word = secrets.token_hex(16)
    with cluster.capture() as wire:
        assert asking.ask(server.ipv4, BARE_PORT, word) == client.ipv4
        with pytest.raises(Failed):
            asking.ask(server.ipv4, PORT, word)
    assert wire.contains(word.encode())
    assert cluster.a.told(direction="outbound", decision="refuse", destination=f"{server.ipv4}:{PORT}")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (annotated(PodSpec("client"), mode="stern"), r"annotation jfe\.io/mode is 'stern'.*off, permissive, strict"),
        (
            annotated(PodSpec("client"), exclude_outbound_ports="80,https"),
            r"annotation jfe\.io/exclude-outbound-ports is '80,https'.*ports from 1 to 65535",
        ),
        (
            annotated(PodSpec("client", namespace="vault"), exclude_outbound_ports="80"),
            r"annotation jfe\.io/exclude-outbound-ports is '80', which weakens the cover.*allow-weaken",
        ),
    ],
    ids=["no mode", "no ports", "not allowed"],
)
def test_an_annotation_that_can_t_be_honoured_refuses_the_pod(cluster: Cluster, spec: PodSpec, sentence: str) -> None:
    assert re.search(sentence, refused(cluster.a, spec))
    assert Crictl(cluster.a).pods() == []


def test_a_pod_s_mode_is_the_stricter_of_what_it_and_its_namespace_ask_for(cluster: Cluster, run_pod: RunPod) -> None:
    calm = run_pod(cluster.a, PodSpec("calm", namespace="calm"))
    stern = run_pod(cluster.a, annotated(PodSpec("stern", namespace="calm"), mode="strict"))
    reports = [workload_of(pod) for pod in (calm, stern)]
    assert [report.mode for report in reports if report] == ["permissive", "strict"]


def test_pods_of_the_release_s_own_namespace_are_let_through(cluster: Cluster, run_pod: RunPod) -> None:
    ours = run_pod(cluster.a, PodSpec("ours", namespace="jfe-system"))
    assert workload_of(ours) is None
    assert is_bare(ours)
