"""What `jfe status` calls trouble."""

from __future__ import annotations

import dataclasses

import pytest

from jfe_cni.agent.reports import StatusReport
from jfe_cni.cli.status import in_trouble
from tests.unit.report_examples import WEB

WITH_RAW_SOCKETS = dataclasses.replace(WEB, hazards=("NET_RAW",))
NODE = StatusReport("n1", "1", "d", 1, 2, True, 0, True, (WITH_RAW_SOCKETS,), 1, 2.5, ())


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
    hurt = dataclasses.replace(WITH_RAW_SOCKETS, **workload)  # type: ignore[arg-type]
    assert in_trouble(dataclasses.replace(NODE, workloads=(WITH_RAW_SOCKETS, hurt))) is trouble


def test_the_agents_own_is_too() -> None:
    assert in_trouble(dataclasses.replace(NODE, troubles=("the directory file is unreadable",)))
