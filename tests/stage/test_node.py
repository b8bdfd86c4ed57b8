"""Nodes of the stage: each has its own, the machine is left alone, and what runs in a pod is told where it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stage import eventually
from tests.stage.cluster import Cluster


def test_what_a_node_writes_is_neither_the_machine_s_nor_the_other_node_s() -> None:
    with Cluster() as cluster:
        places = [f"{folder}/{cluster.name}" for folder in ("/etc/cni/net.d", "/opt/cni/bin", "/run", "/var/lib/cni")]
        cluster.a.run(["touch", *places])
        assert all(cluster.a.file(path).exists() for path in places)
        assert not any(cluster.b.file(path).exists() or Path(path).exists() for path in places)


def test_what_stays_in_a_namespace_of_its_own_is_told_and_ended() -> None:
    cluster = Cluster()
    cluster.a.run(cluster.a.contained("sh", "-c", "setsid unshare --net sleep 301 >/dev/null 2>&1 </dev/null &"))
    eventually(cluster.a.cgroup.processes, "it runs")
    with pytest.raises(AssertionError, match=r"process .* sleep 301"):
        cluster.close()
    # Which no process can be in any more.
    assert not cluster.a.cgroup.path.exists()
