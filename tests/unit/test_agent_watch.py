"""What is done about rules that are not whole, in which order, and what of it goes on where a step fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.agent.metrics import Metrics
from jfe_cni.agent.objects import Target
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.state_file import StateFile
from jfe_cni.agent.watch import Watch
from jfe_cni.agent.workload import State, Workload
from jfe_cni.errors import KernelError
from jfe_cni.kernel.namespace import Namespace


class Rules:
    """Stands for the kernel: says what is missing, and writes down what is done about it."""

    def __init__(self) -> None:
        self.missing: tuple[str, ...] = ()
        self.done: list[str] = []
        self.refused: set[str] = set()

    async def check(self, _: Record) -> tuple[str, ...]:
        self._do("check")
        return self.missing

    async def install(self, _: Record) -> None:
        self._do("install")
        self.missing = ()

    async def close_link(self, record: Record) -> None:
        record.link_closed = True
        self._do("close")

    async def open_link(self, record: Record) -> None:
        self._do("open")
        record.link_closed = False

    def _do(self, step: str) -> None:
        if step in self.refused:
            raise KernelError(f"no {step}")
        self.done.append(step)


@pytest.fixture
def record() -> Iterator[Record]:
    workload = Workload("pod", Target("netns", "/run/netns/pod"), "strict", "spiffe://d/pod", state=State.COVERED)
    with Namespace.own() as namespace:
        yield Record(workload, namespace, loaded=True)


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def watch(record: Record, rules: Rules, tmp_path: Path) -> Watch:
    roster = Roster(StateFile(tmp_path / "workloads.db", logging.getLogger("jfe.test")))
    roster.add(record)
    return Watch(
        roster=roster,
        ground=None,  # type: ignore[arg-type]
        installation=rules,  # type: ignore[arg-type]
        metrics=Metrics(roster.reports),
        log=logging.getLogger("jfe.test"),
    )


async def test_the_link_is_closed_while_the_rules_are_loaded(watch: Watch, record: Record, rules: Rules) -> None:
    rules.missing = ("a chain",)
    await watch.look(record)
    assert rules.done == ["check", "close", "install", "open"]
    assert (record.workload.state, record.workload.trouble) == (State.COVERED, None)


async def test_rules_are_mended_even_where_the_link_cannot_be_closed(
    watch: Watch, record: Record, rules: Rules
) -> None:
    rules.missing, rules.refused = ("the table",), {"close"}
    await watch.look(record)
    assert rules.done == ["check", "install", "open"]
    assert (record.workload.state, record.workload.trouble) == (State.COVERED, "no close")


async def test_a_link_that_a_look_before_left_closed_is_opened(watch: Watch, record: Record, rules: Rules) -> None:
    rules.missing, rules.refused = ("the table",), {"install"}
    await watch.look(record)
    assert (rules.done, record.workload.trouble) == (["check", "close"], "no install")
    rules.missing, rules.refused = (), set()
    await watch.look(record)
    assert rules.done == ["check", "close", "check", "open"]
    assert record.workload.state is State.COVERED


async def test_a_link_that_a_former_agent_may_have_left_closed_is_opened(
    watch: Watch, record: Record, rules: Rules
) -> None:
    record.link_closed = True
    await watch.look(record)
    assert rules.done == ["check", "open"]
