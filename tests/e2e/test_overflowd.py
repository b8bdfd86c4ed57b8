"""A flood between workloads, and one from a stranger, end as notices at both ends, from the node agents' own flows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.collector import PORT as COLLECTOR_PORT
from tests.e2e.pod import pod
from tests.e2e.talk import received, talking
from tests.e2e.test_flows import PORT, flood, options, tracking
from tests.overflowd.laboratory import Laboratory, shown
from tests.stage import Place, Stage, eventually

# Of some 1,500 bytes a packet: tens of thousands of packets.
OCTETS = 40_000_000
PACKETS = 20_000


@pytest.fixture
def laboratory(stage: Stage, tmp_path: Path) -> Iterator[Laboratory]:
    """The collector and reporter is where no workload is, as in a cluster; each workload's host takes notices in."""
    with ExitStack() as stack:
        made = Laboratory(tmp_path, {"cluster": stage.stranger.ipv4}, stack)
        made.report(
            stage.stranger.namespace,
            "cluster",
            ipfix=f"{stage.stranger.ipv4}:{COLLECTOR_PORT}",
            exporters=",".join(f"{host.ipv4}/32" for host in stage.hosts),
        )
        yield made


def told(place: Place, of: str, to: str) -> list[dict[str, Any]]:
    found = shown(place.namespace, "/api/notices?most=500")["notices"]
    ends = [(each["notice"]["flow"]["source"], each["notice"]["flow"]["destination"]) for each in found]
    return [each["notice"] for each, both in zip(found, ends, strict=True) if both == (of, to)]


def test_a_flood_between_two_workloads_is_told_to_both(stage: Stage, laboratory: Laboratory) -> None:
    stage.cover(*options(stage), mode_a="permissive", mode_b="permissive")
    for host in stage.hosts:
        laboratory.receive(host.namespace, host.name, host.ipv4)
    with talking(stage.a, stage.b, PORT, first=b"x") as talk:
        part = bytes(1_000_000)
        for _ in range(OCTETS // len(part)):
            talk.client.sendall(part)
            received(talk.server, len(part))
    for host, end in ((stage.a, "source"), (stage.b, "destination")):
        notices = eventually(lambda: told(host, stage.a.ipv4, stage.b.ipv4), f"{host.name} is told")  # noqa: B023
        assert {each["to"] for each in notices} == {end}
        assert {each["flow"]["destination_port"] for each in notices} == {PORT}
        assert {each["reporter"]["organisation"] for each in notices} == {"Network cluster"}
        assert all(each["flow"]["packets"] > 0 for each in notices)


def test_a_strangers_flood_is_told_to_the_stranger_and_to_the_workload_that_it_hits(
    stage: Stage, laboratory: Laboratory
) -> None:
    """By conntrack, through the node: nobody here is enrolled."""
    stage.start_agents(*options(stage), "--flows-conntrack", "account")
    with pod(stage, stage.a) as hit, tracking(stage.a):
        laboratory.receive(stage.stranger.namespace, "stranger", stage.stranger.ipv4)
        laboratory.receive(hit.namespace, "hit", hit.ipv4)
        with hit.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind((hit.ipv4, PORT))
            flood(stage.stranger, hit.ipv4, PACKETS)
            for place, end in ((stage.stranger, "source"), (hit, "destination")):
                notices = eventually(lambda: told(place, stage.stranger.ipv4, hit.ipv4), f"{place.name} is told")  # noqa: B023
                assert {each["to"] for each in notices} == {end}
                assert {each["flow"]["protocol"] for each in notices} == {socket.IPPROTO_UDP}
