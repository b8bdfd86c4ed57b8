"""What a container runtime asks of the plugin, as the agent answers it: ADD, DEL, CHECK, GC, STATUS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.agent.reports import WorkloadReport
from tests.cni.calls import NETWORK, PREVIOUS, Runtime, answers, body_of, configuration, container, environment, send
from tests.stage import Host, Stage, eventually

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]


NAMESPACES = """
default = "permissive"
release-namespace = "jfe-system"
[namespaces.shop]
mode = "strict"
[namespaces.lab]
mode = "strict"
allow-weaken = true
[namespaces.outside]
mode = "off"
"""


@pytest.fixture(scope="module")
def stage_of() -> Iterator[Stage]:
    with Stage() as made:
        start_with_namespaces(made)
        yield made


@pytest.fixture
def agent(stage_of: Stage) -> Host:
    """Shared by the tests that change nothing but their own containers."""
    assert workloads(stage_of.a) == []
    return stage_of.a


def workloads(host: Host) -> list[WorkloadReport]:
    return host.ask(lambda agent: agent.workloads())


def cached(stage: Stage, runtime: Runtime, **more: Any) -> Path:
    """The folder where libcni keeps what it has added, with that container in it."""
    folder = stage.folder / "results"
    folder.mkdir(exist_ok=True)
    namespace, name = (runtime.pod or "none/none").split("/")
    entry = {
        "kind": "cniCacheV1",
        "containerId": runtime.container,
        "ifName": "eth0",
        "networkName": NETWORK,
        "cniArgs": [["K8S_POD_NAMESPACE", namespace], ["K8S_POD_NAME", name]] if runtime.pod else None,
        "capabilityArgs": {"cgroupPath": "/kubepods/pod1"},
        "result": {"interfaces": [{"name": "eth0", "sandbox": str(runtime.namespace.path)}]},
        **more,
    }
    (folder / f"{NETWORK}-{runtime.container}-eth0").write_text(json.dumps(entry))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_add_covers_a_pod_and_passes_the_result_on_unchanged(agent: Host, stage_of: Stage, version: str) -> None:
    with container(stage_of, agent, pod="shop/web-0") as pod:
        answer = pod.call("ADD", version=version)
        assert answer.body == PREVIOUS
        (workload,) = workloads(agent)
        assert (workload.state, workload.mode) == ("covered", "strict")
        assert workload.identity == "spiffe://jfe.test/ns/shop/pod/web-0"
        assert workload.id.startswith("shop-web-0-")
        assert workload.pod is not None
        assert (workload.pod.namespace, workload.pod.name, workload.pod.uid) == ("shop", "web-0", "uid-1")
        assert workload.cgroup == "/kubepods/burstable/pod1"
        assert [each.container for each in workload.attachments] == [pod.container]
        assert pod.rules()
        assert pod.call("CHECK", version=version).done
        assert pod.call("DEL", version=version).done
        assert workloads(agent) == []
        assert not pod.rules()


@pytest.mark.parametrize("version", VERSIONS)
def test_first_in_a_chain_add_prints_a_result_without_content(agent: Host, stage_of: Stage, version: str) -> None:
    with container(stage_of, agent) as alone:
        answer = alone.call("ADD", version=version, prevResult=None)
        assert answer.body == {"cniVersion": version, "interfaces": [], "ips": [], "dns": {}}
        assert workloads(agent)[0].identity.startswith(f"spiffe://jfe.test/host/{agent.name}/namespace/")


def test_add_said_twice_changes_nothing(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        first = pod.call("ADD")
        before = workloads(agent)
        assert pod.call("ADD") == first
        assert workloads(agent) == before


def test_delete_any_number_of_times_in_any_order_with_or_without_anything(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent, pod="shop/web-0", clean=False) as pod:
        assert pod.call("DEL").done
        assert pod.call("ADD").done
        assert pod.call("DEL", netns="", prevResult=None, version="9.9.9", network="").done
        assert not pod.rules()
        assert pod.call("DEL").done
        assert pod.call("ADD").done
    # Its namespace has gone meanwhile.
    assert pod.call("DEL", netns="").done
    assert pod.call("DEL").done
    assert workloads(agent) == []


def test_delete_while_the_add_of_the_same_container_is_still_running(agent: Host, stage_of: Stage) -> None:
    """At each of many moments of it: nothing is left, and the ADD is told."""
    with container(stage_of, agent) as pod, ThreadPoolExecutor(1) as other:
        outcomes = set()
        for moment in range(12):
            adding = other.submit(pod.call, "ADD")
            if moment:
                threading.Event().wait(moment * 0.004)
            assert pod.call("DEL").done
            answer = adding.result()
            outcomes.add(answer.status)
            if answer.status == 422:
                assert "removed while it was being added" in answer.said
            else:
                # Wholly before, or wholly after.
                assert pod.call("DEL").done
            assert workloads(agent) == []
            assert not pod.rules()
        assert 422 in outcomes, "no DEL ever came in the middle of an ADD"


def test_whoever_asks_and_goes_away_has_added_nothing(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        body = body_of(environment("ADD", container=pod.container, netns=str(pod.namespace.path)), configuration())
        head = f"POST /v1/cni HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(str(agent.socket_path))
                gone.sendall(head + body)
        eventually(lambda: not pod.rules() and workloads(agent) == [], "nothing is left")
        assert pod.call("ADD").done


def test_two_interfaces_of_one_container_are_one_workload_until_both_are_deleted(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent, pod="shop/web-0") as pod:
        assert pod.call("ADD").done
        assert pod.call("ADD", interface="net1", network="second").done
        (workload,) = workloads(agent)
        assert {(each.network, each.interface) for each in workload.attachments} == {
            (NETWORK, "eth0"),
            ("second", "net1"),
        }
        assert pod.call("DEL", interface="net1", network="second").done
        assert pod.rules()
        assert pod.call("DEL").done
        assert not pod.rules()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        # Gone, or gone again while it is being put back.
        ("nft delete table inet jfe", "table"),
        ("sysctl -qw net.ipv4.tcp_fwmark_accept=0", "tcp_fwmark_accept"),
        ("ip rule del pref 5", "policy rule"),
        ("ip route flush table 29286", "routes"),
    ],
)
def test_check_says_what_is_not_as_add_left_it(agent: Host, stage_of: Stage, change: str, sentence: str) -> None:
    """The agent mends by itself, within milliseconds: somebody goes on breaking it, until CHECK has seen it."""
    with container(stage_of, agent) as pod:
        assert pod.call("ADD").done
        assert pod.call("CHECK").done
        loop = f"while :; do {change}; done"
        with subprocess.Popen(pod.namespace.command("sh", "-c", loop), stderr=subprocess.DEVNULL) as breaking:
            try:
                said = eventually(lambda: _refusal(pod), f"CHECK sees: {change}")
            finally:
                breaking.kill()
        assert said is not None
        assert sentence in said
        eventually(lambda: pod.call("CHECK").done, f"the agent mends: {change}")


def test_check_says_that_the_listeners_were_ended_and_the_agent_makes_them_again(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        assert pod.call("ADD").done
        subprocess.run(pod.namespace.command("ss", "-K", "-ltn"), check=True, capture_output=True)
        assert "the upgrader does not listen" in str(_refusal(pod))
        eventually(lambda: pod.call("CHECK").done, "the agent makes them again", seconds=60)


def test_check_says_that_an_address_is_not_named_by_the_certificate(agent: Host, stage_of: Stage) -> None:
    """The agent has it named, soon after: somebody goes on with another, until CHECK has seen it."""
    with container(stage_of, agent) as pod:
        for words in ("link add d0 type veth peer name d1", "link set d0 up", "link set d1 up"):
            subprocess.run(pod.namespace.command("ip", *words.split()), check=True)
        assert pod.call("ADD").done
        change = "for at in 1 2 3; do ip address replace 198.18.9.$at/32 dev d0; done; ip address flush d0"
        loop = f"while :; do {change}; done"
        with subprocess.Popen(pod.namespace.command("sh", "-c", loop), stderr=subprocess.DEVNULL) as changing:
            try:
                eventually(lambda: "does not name 198.18.9." in str(_refusal(pod)), "CHECK sees the address")
            finally:
                changing.kill()
        eventually(lambda: pod.call("CHECK").done, "it is named")


def test_check_of_what_was_never_added_says_so(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        answer = pod.call("CHECK")
        assert answer.code == 102
        assert "its ADD never came" in answer.said


def _refusal(pod: Runtime) -> str | None:
    answer = pod.call("CHECK")
    if answer.done:
        return None
    assert answer.code == 102
    return answer.said


def test_check_without_what_add_printed_is_an_error(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        assert pod.call("ADD").done
        assert pod.call("CHECK", prevResult=None).code == 7


def test_collection_leaves_what_is_named_and_what_is_of_another_network(agent: Host, stage_of: Stage) -> None:
    with contextlib.ExitStack() as made:
        kept = made.enter_context(container(stage_of, agent, "kept"))
        stale = made.enter_context(container(stage_of, agent, "stale"))
        other = made.enter_context(container(stage_of, agent, "other"))
        assert kept.call("ADD").done
        assert stale.call("ADD").done
        assert other.call("ADD", network="another").done
        valid = [{"containerID": kept.container, "ifname": "eth0"}]
        assert kept.call("GC", valid=valid).done
        assert (kept.rules(), stale.rules(), other.rules()) == (True, False, True)
        # What is not said, or half, collects nothing.
        assert kept.call("GC").code == 7
        assert kept.call("GC", valid=[{"containerID": "x"}]).code == 7
        assert kept.rules()


def test_status_says_whether_add_can_be_served_and_whether_those_that_run_suffer(stage: Stage) -> None:
    ends = stage.a.folder / "upgrader-that-ends"
    ends.write_text("#!/bin/sh\nexit 1\n")
    ends.chmod(0o755)
    with container(stage, stage.a) as pod:
        stage.a.start_agent("--upgrader", str(ends), ready=False)
        eventually(lambda: answers(stage.a), "the agent serves its socket")
        assert pod.call("STATUS").code == 50
        stage.a.stop_agent()
        stage.a.start_agent()
        assert pod.call("STATUS").done
        assert pod.call("ADD").done
        stage.a.stop_agent(signal.SIGKILL)
        for process in stage.a.upgrader():
            os.kill(process, signal.SIGKILL)
        stage.a.start_agent("--upgrader", str(ends), ready=False)
        eventually(lambda: answers(stage.a), "the agent serves its socket")
        assert pod.call("STATUS").code == 51
        assert pod.call("DEL").done


def test_metrics_tell_how_many_calls_came_to_what(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        assert pod.call("ADD").done
        assert pod.call("CHECK", prevResult=None).code == 7
        text = agent.ask(lambda asked: asked.metrics())
        assert re.search(r'jfe_cni_call_seconds_count\{code="0",command="ADD"\} [1-9]', text)
        assert re.search(
            r'jfe_cni_call_seconds_count\{code="7",command="CHECK"\} [1-9]|code="7",command=""\} [1-9]', text
        )


def test_no_two_containers_share_a_name(agent: Host, stage_of: Stage) -> None:
    with contextlib.ExitStack() as made:
        pods = [made.enter_context(container(stage_of, agent, f"p{at}", pod="shop/web-0")) for at in range(3)]
        for pod in pods:
            assert pod.call("ADD").done
        assert len({each.id for each in workloads(agent)}) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_COMMAND", "PURGE"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../x"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", ".."),
        ("CNI_NETNS", ""),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_NETNS", "/etc/passwd"),
        ("CNI_ARGS", "K8S_POD_NAME"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=../shop;K8S_POD_NAME=web"),
    ],
)
def test_an_unfit_variable_is_named(agent: Host, stage_of: Stage, variable: str, value: str) -> None:
    with container(stage_of, agent) as pod:
        told = environment("ADD", container=pod.container, netns=str(pod.namespace.path)) | {variable: value}
        answer = send(agent, body_of(told, configuration()))
        assert answer.code == 4
        assert variable in answer.said
        assert not pod.rules()


def test_a_version_that_is_not_spoken_is_refused_in_one_that_is(agent: Host, stage_of: Stage) -> None:
    with container(stage_of, agent) as pod:
        for version in ("0.3.0", "2.0.0", "", None, 4):
            answer = pod.call("ADD", version=version)
            assert answer.code == 1
            assert answer.body["cniVersion"] == "1.1.0"


# --- what namespaces ask for, and pods may change --------------------------------------------------------------------


def start_with_namespaces(stage: Stage) -> Path:
    file = stage.a.folder / "namespaces.toml"
    file.write_text(NAMESPACES)
    stage.a.start_agent("--cni-namespaces", str(file))
    return file


@pytest.mark.parametrize(
    ("pod", "annotations", "mode"),
    [
        ("any/web", {}, "permissive"),
        ("any/web", {"jfe.io/mode": "strict"}, "strict"),
        ("shop/web", {}, "strict"),
        ("lab/web", {"jfe.io/mode": "permissive"}, "permissive"),
        ("lab/web", {"jfe.io/mode": "off"}, None),
        ("outside/web", {}, None),
        ("outside/web", {"jfe.io/mode": "strict"}, "strict"),
        ("jfe-system/agent", {"jfe.io/mode": "strict"}, None),
    ],
)
def test_a_pod_gets_the_mode_that_its_namespace_asks_for_and_allows(
    agent: Host, stage_of: Stage, pod: str, annotations: dict[str, str], mode: str | None
) -> None:
    with container(stage_of, agent, pod=pod) as runtime:
        assert runtime.call("ADD", annotations=annotations).body == PREVIOUS
        assert [each.mode for each in workloads(agent)] == ([] if mode is None else [mode])
        assert runtime.call("CHECK", annotations=annotations).done
        assert runtime.call("DEL", annotations=annotations).done


@pytest.mark.parametrize(
    ("pod", "annotation", "value", "allowed"),
    [
        ("any/web", "jfe.io/mode", "Strict", "off, permissive, strict"),
        ("any/web", "jfe.io/mode", "", "off, permissive, strict"),
        ("any/web", "jfe.io/mode", "off", "asks for permissive"),
        ("shop/web", "jfe.io/mode", "permissive", "asks for strict"),
        ("shop/web", "jfe.io/exclude-outbound-ports", "5432", "allows no exclusions"),
        ("shop/web", "jfe.io/exclude-inbound-ports", "80", "allows no exclusions"),
        ("shop/web", "jfe.io/exclude-outbound-cidrs", "0.0.0.0/0", "allows no exclusions"),
        ("lab/web", "jfe.io/exclude-outbound-ports", "80,http", "1 to 65535"),
        ("lab/web", "jfe.io/exclude-inbound-ports", "0", "1 to 65535"),
        ("lab/web", "jfe.io/exclude-inbound-ports", "80,,81", "1 to 65535"),
        ("lab/web", "jfe.io/exclude-outbound-cidrs", "10.0.0.1/8", "host bits zero"),
        ("lab/web", "jfe.io/app-tls-ports", "9" * 5000, "1 to 65535"),
        ("any/web", "jfe.io/mod", "strict", "jfe.io/mode"),
    ],
)
def test_a_bad_annotation_refuses_the_pod_and_names_itself_its_value_and_what_is_allowed(
    agent: Host, stage_of: Stage, pod: str, annotation: str, value: str, allowed: str
) -> None:
    with container(stage_of, agent, pod=pod) as runtime:
        answer = runtime.call("ADD", annotations={annotation: value})
        assert answer.code == 7
        for word in (annotation, repr(value[:100]), allowed):
            assert word in answer.said
        assert workloads(agent) == []
        assert not runtime.rules()


def test_exclusions_reach_the_workload_where_the_namespace_lets_them(agent: Host, stage_of: Stage) -> None:
    annotations = {
        "jfe.io/exclude-inbound-ports": "80, 443",
        "jfe.io/exclude-outbound-ports": "5432",
        "jfe.io/exclude-outbound-cidrs": "198.18.99.0/24,fd00:99::/64",
        "jfe.io/app-tls-ports": "8443",
        "kubectl.kubernetes.io/last-applied-configuration": '{"a": "\\n"}' * 5000,
    }
    with container(stage_of, agent, pod="lab/web") as runtime:
        assert runtime.call("ADD", annotations=annotations).done
        for destination, reason in (("198.18.99.7:80", "excluded"), ("198.18.98.7:5432", "excluded")):
            (told,) = agent.ask(lambda agent, where=destination: agent.explain(where))  # type: ignore[misc]
            assert (told.decision, reason in told.reason) == ("pass_through", True)


def test_what_the_namespaces_ask_for_is_followed_as_it_changes_and_kept_where_it_is_gone(stage: Stage) -> None:
    file = start_with_namespaces(stage)

    def mode_of(pod: Runtime) -> str | None:
        assert pod.call("ADD").done
        found = [each.mode for each in workloads(stage.a)]
        assert pod.call("DEL").done
        return found[0] if found else None

    with container(stage, stage.a, pod="shop/web") as pod:
        assert mode_of(pod) == "strict"
        file.write_text('default = "off"\n')
        assert mode_of(pod) is None
        file.write_text("this is no TOML")
        assert mode_of(pod) is None
        file.unlink()
        stage.a.stop_agent()
        stage.a.start_agent("--cni-namespaces", str(file))
        assert mode_of(pod) is None, "the copy that was kept says off"


def test_an_agent_that_never_knew_the_namespaces_covers_nobody_at_random(stage: Stage) -> None:
    stage.a.start_agent("--cni-namespaces", str(stage.a.folder / "none.toml"))
    with container(stage, stage.a, pod="shop/web") as pod:
        answer = pod.call("ADD")
        assert answer.code == 11
        assert "none.toml" in answer.said


# --- a node heals itself ---------------------------------------------------------------------------------------------


def test_without_an_authority_pods_of_mode_off_start_and_all_others_wait(stage: Stage) -> None:
    file = stage.a.folder / "namespaces.toml"
    file.write_text(NAMESPACES)
    # Open to others: it can't be used.
    authority = stage.folder / "authority"
    authority.mkdir(mode=0o755)
    agent = stage.a.start_agent("--cni-namespaces", str(file), ready=False)
    eventually(lambda: answers(stage.a), "the agent serves its socket", otherwise=agent.output)
    with (
        container(stage, stage.a, "own", pod="jfe-system/ratelock") as own,
        container(stage, stage.a, "off", pod="outside/web") as off,
        container(stage, stage.a, "web", pod="shop/web") as web,
    ):
        assert own.call("ADD").body == PREVIOUS
        assert off.call("ADD").body == PREVIOUS
        answer = web.call("ADD")
        assert answer.code == 11
        assert "authority" in answer.said
        assert web.call("DEL").done
        assert web.call("STATUS").code == 50
        authority.chmod(0o700)
        eventually(lambda: _done(web), "the authority is there, and the pod starts by itself")
        assert web.rules()


def _done(pod: Runtime) -> bool:
    """As a runtime tries again, be it that the agent makes its socket anew this moment."""
    try:
        return pod.call("ADD").done
    except OSError:
        return False


# --- pods that ran before --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["asked", "told"])
def test_pods_that_ran_before_the_agent_are_enrolled_and_said_to_have_been_bare(stage: Stage, how: str) -> None:
    with container(stage, stage.a, pod="shop/web-0") as pod, container(stage, stage.a, "alone") as alone:
        results = cached(stage, pod)
        cached(stage, alone)
        (results / "another's").write_text("{}")
        stage.a.start_agent("--cni-cache-dir", str(results.parent), *(["--enroll-running"] if how == "told" else []))
        if how == "asked":
            outcome = stage.a.ask(lambda agent: agent.enrol_running())
            assert (outcome.enrolled, outcome.failed) == ((pod.container,), ())
        eventually(lambda: [each.state for each in workloads(stage.a)] == ["covered"], "the pod is covered")
        (workload,) = workloads(stage.a)
        assert workload.ran_bare
        assert workload.identity == "spiffe://jfe.test/ns/shop/pod/web-0"
        assert not alone.rules(), "a container that is no pod, of a chain without the plugin, is left alone"
        # Once is enough.
        again = stage.a.ask(lambda agent: agent.enrol_running())
        assert (again.enrolled, again.failed) == ((), ())
        assert pod.call("CHECK").done
        assert pod.call("DEL").done
        assert workloads(stage.a) == []
