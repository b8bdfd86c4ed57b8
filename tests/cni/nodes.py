"""Fixtures: two nodes with agents and plugins, which the tests of a module share, and pods, which go with a test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.cni.cover import start_agent
from tests.cni.network import PlainPod, install_plugins
from tests.stage.cluster import Cluster
from tests.stage.fixtures import told_of_failure
from tests.stage.node import Node

PodMaker = Callable[..., PlainPod]
_counter = itertools.count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        with told_of_failure(made):
            for node in made.hosts:
                install_plugins(node)
                start_agent(node)
        yield made


@pytest.fixture
def make_pod() -> Iterator[PodMaker]:
    """`make_pod(node)`, by default of Kubernetes' namespace `shop`; its network namespace goes with the test."""
    made: list[PlainPod] = []

    def make(node: Node, *, kubernetes: str | None = "", annotations: Mapping[str, str] | None = None) -> PlainPod:
        name = f"pod-{next(_counter)}"
        pod = PlainPod(
            node, name, kubernetes=f"shop/{name}" if kubernetes == "" else kubernetes, annotations=annotations
        )
        made.append(pod)
        return pod

    yield make
    for pod in made:
        pod.delete()
