"""A node whose agent is down: pods go, and none comes bare."""

from __future__ import annotations

import os
import signal

from tests.cni.cover import start_agent, workload_of, workloads
from tests.cri.conftest import RunPod
from tests.cri.crictl import Crictl
from tests.cri.pods import PodSpec, refused
from tests.stage import eventually
from tests.stage.cluster import Cluster


def test_a_pod_whose_agent_and_upgrader_were_killed_can_be_removed(cluster: Cluster, run_pod: RunPod) -> None:
    node = cluster.a
    sandbox = run_pod(node, PodSpec("bereft"))
    for pid in (node.agent.pid, *node.upgrader()):
        os.kill(pid, signal.SIGKILL)
    node.agent.wait()
    sandbox.remove()
    assert sandbox.crictl.pods() == []
    assert not sandbox.path.exists()
    start_agent(node)
    eventually(lambda: workloads(node) == [], "the new agent has let go of it", otherwise=lambda: f"{workloads(node)}")


def test_a_pod_is_refused_while_the_agent_is_away_and_the_same_is_taken_when_it_is_back(
    cluster: Cluster, run_pod: RunPod
) -> None:
    node, spec = cluster.a, PodSpec("early")
    node.stop_agent()
    try:
        refusal = refused(node, spec)
        assert f"failed (add): jfe's agent does not answer at {node.socket_path}" in refusal
        assert Crictl(node).pods() == []
    finally:
        start_agent(node)
    report = workload_of(run_pod(node, spec))
    assert report is not None
    assert report.state == "covered"
