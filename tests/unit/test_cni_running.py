"""What libcni keeps of containers that run, as the versions of it write it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.cni.faults import CniError
from jfe_cni.cni.running import Running, running

POD = [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "web-0"], ["K8S_POD_UID", "u"]]


def entry(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "config": chain("bridge"),
        "ifName": "eth0",
        "networkName": "net",
        "cniArgs": POD,
        "capabilityArgs": {"io.kubernetes.cri.pod-annotations": {"jfe.io/mode": "strict"}, "cgroupPath": "/kubepods/u"},
        "result": {
            "interfaces": [
                {"name": "cni0"},
                {"name": "net1", "sandbox": "/run/netns/other"},
                {"name": "eth0", "sandbox": "/run/netns/c1"},
            ]
        },
    } | fields


def chain(*types: str) -> str:
    return base64.b64encode(json.dumps({"plugins": [{"type": each} for each in types]}).encode()).decode()


def found(folder: Path, *entries: object) -> list[Running | CniError]:
    (folder / "results").mkdir()
    for at, each in enumerate(entries):
        (folder / "results" / f"net-{at}").write_text(each if isinstance(each, str) else json.dumps(each))
    return list(running(folder))


def test_a_pod_is_found_with_its_annotations_cgroup_and_namespace(tmp_path: Path) -> None:
    (one,) = found(tmp_path, entry())
    assert isinstance(one, Running)
    assert one.namespace == "/run/netns/c1"
    assert one.annotations == {"jfe.io/mode": "strict"}
    assert one.container.pod is not None
    assert (one.container.pod.namespace, one.container.cgroup, one.container.ran_bare) == ("shop", "/kubepods/u", True)


def test_where_the_namespace_is_kept_it_is_that_one(tmp_path: Path) -> None:
    (one,) = found(tmp_path, entry(netns="/run/netns/kept"))
    assert isinstance(one, Running)
    assert one.namespace == "/run/netns/kept"


@pytest.mark.parametrize(
    "other",
    [
        entry(ifName="lo"),
        entry(cniArgs=None),
        entry(cniArgs=None, config="none"),
        entry(result={}),
        entry(result=None),
        entry(kind="another"),
        entry(containerId=7),
        "no JSON",
        "[" * 100_000,
        "[]",
    ],
)
def test_what_is_no_pods_is_left_alone(tmp_path: Path, other: object) -> None:
    assert found(tmp_path, other) == []


def test_a_container_that_is_no_pod_counts_where_the_plugin_was_in_its_chain(tmp_path: Path) -> None:
    (one,) = found(tmp_path, entry(cniArgs=None, config=chain("bridge", "jfe")))
    assert isinstance(one, Running)
    assert one.container.pod is None


def test_one_that_cannot_be_understood_is_said_and_the_others_are_found(tmp_path: Path) -> None:
    strange, one = found(tmp_path, entry(cniArgs=[["K8S_POD_NAMESPACE", "../"], ["K8S_POD_NAME", "x"]]), entry())
    assert isinstance(strange, CniError)
    assert isinstance(one, Running)


def test_a_runtime_that_keeps_nothing_has_nothing_running(tmp_path: Path) -> None:
    assert list(running(tmp_path / "none")) == []
