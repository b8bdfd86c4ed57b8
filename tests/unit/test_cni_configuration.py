"""A network configuration and the variables beside it, as values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jfe_cni.agent.attachment import Pod
from jfe_cni.cni.configuration import Configuration, configuration_of, version_of
from jfe_cni.cni.faults import CniError
from jfe_cni.cni.invocation import environment_and_input, invocation_of, pod_of


def configured(command: str = "ADD", **fields: Any) -> Configuration:
    return configuration_of(json.dumps({"cniVersion": "1.1.0", "name": "net"} | fields).encode(), command)


def test_variables_and_input_are_told_apart_by_two_nul() -> None:
    environment, text = environment_and_input(b"CNI_COMMAND=ADD\0CNI_ARGS=A=B;C=D\0\0{\0}\0\0")
    assert environment == {"CNI_COMMAND": "ADD", "CNI_ARGS": "A=B;C=D"}
    assert text == b"{\0}\0\0"


@pytest.mark.parametrize("body", [b"", b"CNI_COMMAND=ADD", b"CNI_COMMAND=ADD\0"])
def test_a_call_that_is_cut_short_is_no_call(body: bytes) -> None:
    with pytest.raises(CniError, match="cut short"):
        environment_and_input(body)


def test_a_pod_is_told_by_arguments_in_any_order() -> None:
    arguments = {"K8S_POD_UID": "u", "IgnoreUnknown": "1", "K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop"}
    assert pod_of(arguments) == Pod("shop", "web-0", "u")
    assert pod_of({}) is None


@pytest.mark.parametrize("half", [{"K8S_POD_NAME": "web"}, {"K8S_POD_NAMESPACE": "shop"}])
def test_half_a_pod_is_none(half: dict[str, str]) -> None:
    with pytest.raises(CniError, match="CNI_ARGS"):
        pod_of(half)


def test_containerds_path_of_a_namespace_is_found_where_var_run_is_no_link() -> None:
    told = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_NETNS": "/var/run/netns/cni-1"}
    found = invocation_of(told, configured()).namespace
    # On a host it is one; in an image without it the other is where the agent has it mounted.
    assert found in ("/var/run/netns/cni-1", "/run/netns/cni-1")


def test_delete_takes_what_nothing_else_would() -> None:
    found = configured("DEL", cniVersion="99", name=None, prevResult="x", runtimeConfig=[])
    assert (found.network, found.previous) == ("", None)
    told = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_ARGS": "broken"}
    assert invocation_of(told, found).namespace == ""


def test_what_must_not_be_collected_is_read_whole_or_not_at_all() -> None:
    valid = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]
    assert configured("GC", **{"cni.dev/valid-attachments": valid}).valid == frozenset({("a", "eth0"), ("b", "net1")})
    assert configured("GC", **{"cni.dev/valid-attachments": []}).valid == frozenset()
    assert configured("GC", **{"cni.dev/valid-attachments": None}).valid == frozenset()
    assert configured("GC", **{"cni.dev/attachments": valid}).valid == frozenset({("a", "eth0"), ("b", "net1")})
    assert configured("GC").valid is None
    for broken in ("x", [1], [{"containerID": "a"}], [*valid, None], {"a": "eth0"}):
        with pytest.raises(CniError):
            configured("GC", **{"cni.dev/valid-attachments": broken})


def test_annotations_are_those_of_the_runtime_and_none_where_it_passes_none() -> None:
    passed = {"io.kubernetes.cri.pod-annotations": {"a": "b"}, "cgroupPath": "/kubepods/x"}
    found = configured(runtimeConfig=passed)
    assert (found.annotations, found.cgroup) == ({"a": "b"}, "/kubepods/x")
    for nothing in ({}, {"io.kubernetes.cri.pod-annotations": None, "cgroupPath": None}, None):
        found = configured(runtimeConfig=nothing)
        assert (found.annotations, found.cgroup) == ({}, None)
    with pytest.raises(CniError, match="annotations"):
        configured(runtimeConfig={"io.kubernetes.cri.pod-annotations": {"a": 1}})


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"1", b"\xff", b'{"cniVersion": NaN}', b'{"a": 1e999}', b"[" * 9999]
)
def test_what_is_no_object_of_json_is_undecodable(text: bytes) -> None:
    with pytest.raises(CniError) as refused:
        configuration_of(text, "ADD")
    assert refused.value.code == 6
    assert version_of(text) is None
