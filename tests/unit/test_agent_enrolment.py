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
from jfe_cni.errors import IdentityError
from jfe_cni.kernel.cover import Prepared
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.kernel.survey import Survey
from jfe_cni.rules.model import Former

PREPARED = Prepared(Former(accept=0, reflect=0, ipv6_reflect=None, loopback_up=False), recorded=2, routed=True)
WISH = Enrolment(Target("netns", "/run/netns/pod"), name="pod")


class Parts:
    """Stands for every part that an enrolment goes through; `slow` is the step that does not come to its end."""

    connected = True

    def __init__(self, roster: Roster, slow: str, *, refuses: bool = False) -> None:
        self.roster = roster
        self._refuses = refuses
        self._slow = slow
        self.done: list[str] = []
        self.waiting = asyncio.Event()

    async def record_of(self, _: Enrolment, __: Container | None = None) -> Record:
        workload = Workload("pod", WISH.target, "permissive", "spiffe://d/pod", namespace=(4, 77))
        return Record(workload, Namespace.own())

    async def survey(self, _: Namespace) -> Survey:
        await self._do("look")
        return Survey(enrolled_as=None, addresses=frozenset(), silent=False)

    async def connections(self, _: Namespace, __: int | None) -> frozenset[Any]:
        return frozenset()

    async def control(self) -> Parts:
        return self

    async def ask(self, word: Word) -> Mapping[str, Any]:
        await self._do(f"upgrader {word['word']}")
        return {"answer": "done"}

    def refuse_anothers(self, _: Record, other: str | None) -> None:
        assert other is None

    async def give(self, _: Record, __: Parts) -> None:
        await self._do("upgrader add")
        if self._refuses:
            await self.waiting.wait()
            raise IdentityError("no certificate", remedy="try again")

    async def prepare(self, _: Record) -> Prepared:
        """As a thread inside the namespace: cancelled, it comes to its end all the same."""
        self.done.append("ground")
        try:
            await self._do("waits for the ground")
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            self.done.append("ground done")
            raise
        return PREPARED

    async def install(self, _: Record, prepared: Prepared | None = None) -> None:
        assert prepared is PREPARED
        await self._do("rules")

    async def remove(self, _: Record) -> None:
        await self._do("no rules")

    async def announce(self) -> None:
        named = [record.workload.id for record in self.roster if record.workload.published]
        await self._do(f"directory {named}")

    async def _do(self, step: str) -> None:
        self.done.append(step)
        if step == self._slow:
            self.waiting.set()
            await asyncio.Event().wait()


def staged(tmp_path: Path, slow: str, *, refuses: bool = False) -> tuple[StateFile, Parts, Enroller]:
    file = StateFile(tmp_path / "workloads.db", logging.getLogger("jfe.test"))
    roster = Roster(file)
    parts = Parts(roster, slow, refuses=refuses)
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
    return file, parts, enroller


@pytest.mark.parametrize(
    ("slow", "undone"),
    [
        ("look", []),
        ("upgrader add", ["ground", "waits for the ground", "no rules", "upgrader del"]),
        ("waits for the ground", ["ground done", "no rules", "upgrader del"]),
        ("rules", ["no rules", "upgrader del"]),
        ("directory ['pod']", ["directory []", "no rules", "upgrader del"]),
    ],
)
async def test_a_caller_that_goes_away_has_its_enrolment_undone_to_the_last_step(
    tmp_path: Path, slow: str, undone: list[str]
) -> None:
    file, parts, enroller = staged(tmp_path, slow)
    enrolling = asyncio.create_task(enroller.enrol(WISH))
    async with asyncio.timeout(10):
        await parts.waiting.wait()
    enrolling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await enrolling
    assert enrolling.cancelled()
    assert parts.done[parts.done.index(slow) + 1 :] == undone
    assert list(parts.roster) == []
    assert file.load() == ([], SavedDirectory())


async def test_a_workload_without_a_certificate_is_undone_after_its_ground_has_been_prepared(tmp_path: Path) -> None:
    _, parts, enroller = staged(tmp_path, "waits for the ground", refuses=True)
    async with asyncio.timeout(10):
        with pytest.raises(IdentityError, match="no certificate"):
            await enroller.enrol(WISH)
    assert parts.done[-3:] == ["ground done", "no rules", "upgrader del"]
    assert list(parts.roster) == []
