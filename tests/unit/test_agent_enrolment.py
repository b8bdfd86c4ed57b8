"""An enrolment whose caller goes away: everything that was done is undone, in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.agent.attachment import Container
from jfe_cni.agent.enrolment import Enroller
from jfe_cni.agent.messages import Word
from jfe_cni.agent.objects import Enrolment, Target
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.state_file import SavedDirectory, StateFile
from jfe_cni.agent.workload import Workload
from jfe_cni.kernel.namespace import Namespace

WISH = Enrolment(Target("netns", "/run/netns/pod"), name="pod")


class Parts:
    """Stands for every part that an enrolment goes through; `slow` is the step that does not come to its end."""

    connected = True

    def __init__(self, roster: Roster, slow: str) -> None:
        self._roster = roster
        self._slow = slow
        self.done: list[str] = []
        self.waiting = asyncio.Event()

    async def record_of(self, _: Enrolment, __: Container | None = None) -> Record:
        workload = Workload("pod", WISH.target, "permissive", "spiffe://d/pod", namespace=(4, 77))
        return Record(workload, Namespace.own())

    async def addresses(self, _: Namespace) -> frozenset[Any]:
        return frozenset()

    async def connections(self, _: Namespace, __: int | None) -> frozenset[Any]:
        return frozenset()

    async def control(self) -> Parts:
        return self

    async def ask(self, word: Word) -> Mapping[str, Any]:
        await self._do(f"upgrader {word['word']}")
        return {"answer": "done"}

    async def refuse_anothers(self, _: Record) -> None:
        await self._do("look")

    async def give(self, _: Record, __: Parts) -> None:
        await self._do("upgrader add")

    async def install(self, _: Record) -> None:
        await self._do("rules")

    async def remove(self, _: Record) -> None:
        await self._do("no rules")

    async def announce(self) -> None:
        named = [record.workload.id for record in self._roster if record.workload.published]
        await self._do(f"directory {named}")

    async def _do(self, step: str) -> None:
        self.done.append(step)
        if step == self._slow:
            self.waiting.set()
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("slow", "undone"),
    [
        ("look", []),
        ("upgrader add", ["upgrader del"]),
        ("rules", ["no rules", "upgrader del"]),
        ("directory ['pod']", ["directory []", "no rules", "upgrader del"]),
    ],
)
async def test_a_caller_that_goes_away_has_its_enrolment_undone_to_the_last_step(
    tmp_path: Path, slow: str, undone: list[str]
) -> None:
    file = StateFile(tmp_path / "workloads.db", logging.getLogger("jfe.test"))
    roster = Roster(file)
    parts = Parts(roster, slow)
    enroller = Enroller(
        roster=roster,
        targets=parts,  # type: ignore[arg-type]
        ground=parts,  # type: ignore[arg-type]
        issuance=parts,  # type: ignore[arg-type]
        installation=parts,  # type: ignore[arg-type]
        supervisor=parts,  # type: ignore[arg-type]
        announcement=parts,  # type: ignore[arg-type]
        log=logging.getLogger("jfe.test"),
    )
    enrolling = asyncio.create_task(enroller.enrol(WISH))
    async with asyncio.timeout(10):
        await parts.waiting.wait()
    enrolling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await enrolling
    assert enrolling.cancelled()
    assert parts.done[parts.done.index(slow) + 1 :] == undone
    assert list(roster) == []
    assert file.load() == ([], SavedDirectory())
