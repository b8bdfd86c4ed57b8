"""What `jfe status` calls trouble."""

from __future__ import annotations

import dataclasses

import pytest

from jfe_cni.agent.reports import StatusReport, WorkloadReport
from jfe_cni.cli.status import in_trouble

WEB = WorkloadReport(
    id="web",
    shape="namespace",
    mode="strict",
    state="covered",
    identity="spiffe://jfe.local/x",
    target_kind="netns",
    target="/run/netns/web",
    addresses=("10.1.0.5",),
    outbound_port=61000,
    inbound_port=61001,
    ipv6=True,
    certificate_expires=2.5,
    rules_whole=True,
    bare=(),
    passed=(),
    hazards=("NET_RAW",),
    trouble=None,
)
NODE = StatusReport("n1", "1", "d", 1, 2, True, 0, True, (WEB,), 1, 2.5, ())


def test_a_node_whose_workloads_are_covered_is_in_none() -> None:
    assert not in_trouble(NODE)


@pytest.mark.parametrize(
    ("workload", "trouble"),
    [
        ({"trouble": "the authority is away"}, True),
        ({"rules_whole": False}, True),
        ({"rules_whole": False, "state": "mending"}, True),
        # A unit that is stopped has no rules, and should have none.
        ({"rules_whole": False, "state": "absent"}, False),
        ({"rules_whole": False, "state": "enrolling"}, False),
    ],
)
def test_a_workloads_trouble_is_the_nodes(workload: dict[str, object], *, trouble: bool) -> None:
    hurt = dataclasses.replace(WEB, **workload)  # type: ignore[arg-type]
    assert in_trouble(dataclasses.replace(NODE, workloads=(WEB, hurt))) is trouble


def test_the_agents_own_is_too() -> None:
    assert in_trouble(dataclasses.replace(NODE, troubles=("the directory file is unreadable",)))
