"""`jfe cni install` and `uninstall` on a node whose containerd calls what they have written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cni.cover import workload_of, workloads
from tests.cni.network import CONFIGURATIONS, PLUGINS, chain, install_our_plugin
from tests.cri.conftest import NETWORK, RunPod
from tests.cri.containerd import Containerd
from tests.cri.pods import PodSpec
from tests.e2e.command import jfe
from tests.stage import eventually
from tests.stage.cluster import Cluster


@pytest.fixture
def bare(runtime: tuple[Cluster, Containerd]) -> Iterator[Containerd]:
    """The containerd of node a, on which nothing of ours is installed; afterwards it is as other tests have it."""
    cluster, containerd = runtime
    node, version = cluster.a, containerd.release.cni_versions[-1]
    node.file(f"{PLUGINS}/jfe").unlink()
    containerd.use(chain(node, NETWORK, version, covered=False))
    yield containerd
    shutil.rmtree(node.file(f"{CONFIGURATIONS}/{NETWORK}"), ignore_errors=True)
    node.file(f"{PLUGINS}/jfe").unlink(missing_ok=True)
    install_our_plugin(node)
    containerd.use(chain(node, NETWORK, version))


def test_the_chain_is_joined_by_the_way_that_containerd_honours_and_left_again(
    bare: Containerd, run_pod: RunPod
) -> None:
    node, honours = bare.node, bare.release.drop_ins
    before = chain(node, NETWORK, bare.release.cni_versions[-1], covered=False)
    # Where a drop-in is never called the whole of the time is waited for.
    command = jfe("cni", "install", "--json", "--socket", str(node.socket_path))
    installing = node.spawn([*command, "--probe-seconds", "60" if honours else "3"], name="install")
    eventually(lambda: node.file(f"{PLUGINS}/jfe").exists(), "the plugin is there", otherwise=installing.output)
    tries = 0
    while installing.alive:
        run_pod(node, PodSpec(f"try-{tries}")).remove()
        tries += 1
    assert installing.wait() == 0, installing.output()
    # Once more: it stands, and there is nothing to do.
    said = json.loads(node.run([*command, "--probe-seconds", "0"]).stdout)
    assert (said["network"], said["chain"], said["written"]) == (NETWORK, "drop-in" if honours else "inline", [])
    assert (_written(bare) == before) is honours
    pod = run_pod(node, PodSpec("after"))
    report = workload_of(pod)
    assert report is not None
    assert [each.network for each in report.attachments] == [NETWORK]

    node.run(jfe("cni", "uninstall"))
    assert _written(bare) == before
    # What is left of the plugin lets the pod go, and the agent sees that its namespace is gone.
    pod.remove()
    eventually(lambda: workloads(node) == [], "the agent has let go of it")
    assert workload_of(run_pod(node, PodSpec("afterwards"))) is None


def _written(containerd: Containerd) -> Any:
    """The network's list, as it is in the folder."""
    return json.loads(containerd.node.file(f"{CONFIGURATIONS}/10-{NETWORK}.conflist").read_text())
