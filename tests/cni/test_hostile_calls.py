"""Whatever reaches the agent in the plugin's name: the answer is the specification's, and no rule is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cni.calls import PREVIOUS, Answer, Runtime, body_of, configuration, container, environment, send
from tests.stage import Stage

COMMANDS = ["ADD", "DEL", "CHECK", "GC", "STATUS"]
MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "cniVersion",
    "name",
    "type",
    "prevResult",
    "runtimeConfig",
    "capabilities",
    "cni.dev/valid-attachments",
    "dropIn",
    "anything",
]
VARIABLES = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_PATH"]
ANNOTATIONS = ["jfe.io/mode", "jfe.io/exclude-inbound-ports", "jfe.io/exclude-outbound-cidrs", "jfe.io/app-tls-ports"]


@pytest.fixture(scope="module")
def pod() -> Iterator[Runtime]:
    with Stage() as stage:
        stage.a.start_agent()
        with container(stage, stage.a, pod="shop/web-0") as made:
            yield made


def told(pod: Runtime, command: str = "ADD") -> dict[str, str]:
    return environment(command, container=pod.container, netns=str(pod.namespace.path), pod=pod.pod)


def is_of_the_specification(answer: Answer) -> bool:
    if answer.status == 200:
        return answer.body is None or isinstance(answer.body, dict)
    return (
        answer.status == 422
        and isinstance(answer.body["code"], int)
        and 0 < answer.body["code"] < 999
        and isinstance(answer.body["msg"], str)
        and bool(answer.body["msg"])
        and isinstance(answer.body["details"], str)
        and answer.body["cniVersion"] in ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
    )


def nothing_is_left(pod: Runtime, answer: Answer) -> None:
    """A refusal leaves nothing; what was done can be undone."""
    assert is_of_the_specification(answer), answer
    if answer.status == 422:
        assert not pod.rules()
        return
    # Under whatever name it was added.
    for workload in pod.host.ask(lambda agent: agent.workloads()):
        pod.host.unenrol(workload.id)
    assert not pod.rules()


@MANY
@given(body=st.binary(max_size=300))
def test_any_bytes_at_all(pod: Runtime, body: bytes) -> None:
    nothing_is_left(pod, send(pod.host, body))


@MANY
@given(text=st.binary(max_size=200), command=st.sampled_from(COMMANDS))
def test_any_bytes_for_a_configuration(pod: Runtime, text: bytes, command: str) -> None:
    nothing_is_left(pod, send(pod.host, body_of(told(pod, command), text)))


@MANY
@given(changes=st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1), command=st.sampled_from(COMMANDS))
def test_a_configuration_with_fields_of_any_kind(pod: Runtime, changes: dict[str, Any], command: str) -> None:
    nothing_is_left(pod, send(pod.host, body_of(told(pod, command), configuration() | changes)))


@MANY
@given(
    changes=st.dictionaries(
        st.sampled_from(VARIABLES), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80)
    ),
    command=st.sampled_from(COMMANDS),
)
def test_variables_of_any_text(pod: Runtime, changes: dict[str, str], command: str) -> None:
    nothing_is_left(pod, send(pod.host, body_of(told(pod, command) | changes, configuration())))


@MANY
@given(annotations=st.dictionaries(st.sampled_from(ANNOTATIONS), st.text(max_size=40)))
def test_annotations_of_any_text(pod: Runtime, annotations: dict[str, str]) -> None:
    nothing_is_left(pod, send(pod.host, body_of(told(pod), configuration(annotations=annotations))))


@MANY
@given(data=st.data())
def test_a_call_with_bytes_changed_taken_out_and_put_in(pod: Runtime, data: st.DataObject) -> None:
    body = bytearray(body_of(told(pod), configuration()))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["change", "take out", "put in", "cut"])):
            case "change":
                body[at] = data.draw(st.integers(0, 255))
            case "take out":
                del body[at]
            case "put in":
                body[at:at] = data.draw(st.binary(max_size=8))
            case _:
                del body[max(at, 100) :]
    nothing_is_left(pod, send(pod.host, bytes(body)))


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
@pytest.mark.parametrize("inside", ["configuration", "prevResult"])
def test_nesting_without_end(pod: Runtime, depth: int, inside: str) -> None:
    nested = "[" * depth + "]" * depth
    if inside == "configuration":
        text = nested
    else:
        text = json.dumps(configuration()).replace(json.dumps(PREVIOUS), '{"a": ' + nested + "}")
    nothing_is_left(pod, send(pod.host, body_of(told(pod), text.encode())))


@pytest.mark.parametrize(
    "text",
    [
        '{"cniVersion": "1.0.0", "name": "n", "prevResult": {"a": NaN}}',
        '{"cniVersion": "1.0.0", "name": "n", "prevResult": {"a": 1e999}}',
        '{"cniVersion": "1.0.0", "name": "n", "prevResult": {"a": "\\ud800"}}',
        '{"cniVersion": "1.0.0", "name": "\\ud800"}',
        '{"cniVersion": "1.0.0", "name": "n", "prevResult": {"a": ' + "9" * 10_000 + "}}",
        '{"cniVersion": "1.0.0", "name": "n", "runtimeConfig": {"cgroupPath": "\\ud800"}}',
        '{"cniVersion": "1.0.0", "name": "' + "n" * 100_000 + '"}',
    ],
    ids=[
        "not a number",
        "beyond any number",
        "half a letter",
        "half a name",
        "ten thousand digits",
        "half a cgroup",
        "a long name",
    ],
)
def test_what_is_json_for_some(pod: Runtime, text: str) -> None:
    nothing_is_left(pod, send(pod.host, body_of(told(pod), text.encode())))


def test_after_all_that_a_pod_is_covered(pod: Runtime) -> None:
    assert pod.call("ADD").body == PREVIOUS
    assert pod.rules()
    assert pod.call("DEL").done
