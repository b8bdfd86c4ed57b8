"""Certificates that follow a workload's addresses, also where a try fails."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.agent.directory import Address
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.issuer import LocalIssuer
from jfe_cni.agent.messages import Word
from jfe_cni.agent.objects import Target
from jfe_cni.agent.roster import Record, Roster, report
from jfe_cni.agent.state_file import StateFile
from jfe_cni.agent.upkeep import Upkeep
from jfe_cni.agent.workload import State, Workload
from jfe_cni.errors import UpgraderError
from jfe_cni.identity.authority import Authority, open_authority
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.rules.model import Mark

LOG = logging.getLogger("jfe.test")
OLD = frozenset({ipaddress.ip_address("10.1.0.5")})
NEW = OLD | {ipaddress.ip_address("10.1.0.6")}


def clock() -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC)


class Upgrader:
    """Stands for supervisor and control: takes every workload, or refuses while it is `away`."""

    connected = True
    away = False

    async def control(self) -> Upgrader:
        return self

    async def ask(self, _: Word, __: Sequence[int] = ()) -> Mapping[str, Any]:
        if self.away:
            raise UpgraderError("the upgrader went away")
        return {"answer": "listening", "outbound": 61001, "inbound": 61002, "ipv6": True}


class Ground:
    def __init__(self, addresses: frozenset[Address]) -> None:
        self.found = addresses

    async def addresses(self, _: Namespace) -> frozenset[Address]:
        return self.found


class Announcement:
    """Writes down which addresses the directory was told."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.told: asyncio.Queue[frozenset[Address]] = asyncio.Queue()

    async def announce(self) -> None:
        await self.told.put(self._record.workload.addresses)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "authority", TrustDomain.parse("d"), clock)


@pytest.fixture
def record() -> Iterator[Record]:
    with Namespace.own() as own:
        workload = Workload(
            "pod",
            Target("netns", "/proc/self/ns/net"),
            "strict",
            "spiffe://d/pod",
            state=State.COVERED,
            addresses=OLD,
            namespace=(own.identity.device, own.identity.inode),
        )
        yield Record(workload, own, loaded=True)


@pytest.fixture
def roster(record: Record, tmp_path: Path) -> Roster:
    made = Roster(StateFile(tmp_path / "workloads.db", logging.getLogger("jfe.test")))
    made.add(record)
    return made


@pytest.fixture
def issuance(authority: Authority, roster: Roster) -> Issuance:
    issuer = LocalIssuer(authority, clock)
    return Issuance(issuer, roster, Mark(), clock, LOG, refused=lambda _: None)


async def test_a_certificate_that_could_not_follow_the_addresses_stays_due_and_is_issued_later(
    issuance: Issuance, record: Record
) -> None:
    upgrader = Upgrader()
    await issuance.renew_due(upgrader)  # type: ignore[arg-type]
    assert not issuance.due(record.workload)
    record.workload = dataclasses.replace(record.workload, addresses=NEW)
    upgrader.away = True
    await issuance.renew_due(upgrader)  # type: ignore[arg-type]
    assert issuance.due(record.workload)
    assert report(record).trouble == "the upgrader went away"
    upgrader.away = False
    await issuance.renew_due(upgrader)  # type: ignore[arg-type]
    assert not issuance.due(record.workload)
    assert report(record).trouble is None


@pytest.mark.parametrize("away", [False, True])
async def test_the_directory_hears_of_new_addresses_whether_or_not_the_certificate_follows(
    roster: Roster, issuance: Issuance, record: Record, *, away: bool
) -> None:
    upgrader, announcement = Upgrader(), Announcement(record)
    upgrader.away = away
    upkeep = Upkeep(
        roster=roster,
        targets=None,  # type: ignore[arg-type]
        ground=Ground(NEW),  # type: ignore[arg-type]
        issuance=issuance,
        installation=None,  # type: ignore[arg-type]
        enroller=None,  # type: ignore[arg-type]
        announcement=announcement,  # type: ignore[arg-type]
        supervisor=upgrader,  # type: ignore[arg-type]
        watch=None,  # type: ignore[arg-type]
        log=LOG,
    )
    running = asyncio.create_task(upkeep.run())
    async with asyncio.timeout(10):
        assert await announcement.told.get() == NEW
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert issuance.due(record.workload) == away
