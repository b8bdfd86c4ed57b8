"""Two nodes with containerd, of either version, agents and plugins; what a test makes on them it takes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cni.cover import start_agent
from tests.cni.network import chain, install_plugins, write
from tests.cri import pods
from tests.cri.containerd import Containerd, release
from tests.cri.pods import PodSpec, Sandbox
from tests.stage.cluster import Cluster
from tests.stage.fixtures import pytest_runtest_makereport, told_of_failure
from tests.stage.node import Node

__all__ = ["RunPod", "cluster", "pytest_runtest_makereport", "run_pod", "runtime"]

RunPod = Callable[[Node, PodSpec], Sandbox]
NETWORK = "pods"


@pytest.fixture(scope="package", params=["1", "2"], ids=["containerd-1", "containerd-2"])
def runtime(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, Containerd]]:
    """The cluster, and the containerd of node a."""
    what = release(request.param)
    with Cluster() as made:
        with told_of_failure(made):
            for node in made.hosts:
                install_plugins(node)
                write(node, chain(node, NETWORK, what.cni_versions[-1]))
                start_agent(node)
            first, _ = (Containerd(node, what) for node in made.hosts)
        yield made, first


@pytest.fixture
def cluster(runtime: tuple[Cluster, Containerd]) -> Cluster:
    return runtime[0]


@pytest.fixture
def run_pod() -> Iterator[RunPod]:
    """`run_pod(node, PodSpec(…))`; removed with the test, if it has not been before."""
    made: list[Sandbox] = []

    def run(node: Node, spec: PodSpec) -> Sandbox:
        made.append(pods.run_pod(node, spec))
        return made[-1]

    yield run
    for sandbox in made:
        if sandbox.container in sandbox.crictl.pods():
            sandbox.remove()
