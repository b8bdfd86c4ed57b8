"""Fixtures on the real kernel: fresh namespaces and cgroups, made for one test and gone after it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.nft import Nft
from tests.kernel import lab
from tests.kernel.agent_node import Node
from tests.kernel.lab import Capture, Host, Upgrader


@pytest.fixture
def pair() -> Iterator[tuple[Host, Host]]:
    with lab.hosts() as (pod, peer):
        yield pod, peer


@pytest.fixture
def pod(pair: tuple[Host, Host]) -> Host:
    """The host under test."""
    return pair[0]


@pytest.fixture
def peer(pair: tuple[Host, Host]) -> Host:
    """The other end of its link."""
    return pair[1]


@pytest.fixture
def tree() -> CgroupTree:
    return CgroupTree.found()


@pytest.fixture
def cgroups(tree: CgroupTree) -> Iterator[MadeCgroup]:
    """A cgroup of the test's own, under which it makes others: two levels below the root, as a node's are."""
    made = tree.create(f"jfe-test-{os.getpid()}/n")
    yield made
    made.kill()
    made.remove()


@pytest.fixture
def upgrader(tree: CgroupTree, cgroups: MadeCgroup) -> Upgrader:
    made = tree.create(str(cgroups.path / "upgrader"))
    return Upgrader(made, tree.exemption(str(made.path)))


@pytest.fixture
def nft() -> Nft:
    return Nft()


@pytest.fixture
def cover(nft: Nft) -> Cover:
    return Cover(nft)


@pytest.fixture
def wire(pair: tuple[Host, Host], tmp_path: Path) -> Iterator[Capture]:
    """What passes on the link, seen from the peer's end."""
    with lab.capture(pair[1], pair[0], tmp_path / "wire.pcap") as seen:
        yield seen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure names the way into its namespaces (they stand as long as the test does: stop it with --pdb)."""
    report = yield
    hosts = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Host)]
    if report.failed and hosts:
        report.sections.append(("namespaces", "\n".join(host.enter for host in hosts)))
    return report


@pytest.fixture
def idle(peer: Host, tmp_path: Path, tree: CgroupTree) -> Iterator[Node]:
    """Not started. What it leaves, or a test that killed it, is taken away by its cgroup."""
    node = Node(peer, tmp_path)
    yield node
    try:
        node.stop()
    finally:
        made = tree.create(f"jfe/{node.name}")
        made.kill()
        made.remove()


@pytest.fixture
def node(idle: Node) -> Node:
    idle.start()
    return idle
