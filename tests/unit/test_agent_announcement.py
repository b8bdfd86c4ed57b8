"""Which entries the directory has of this node's own workloads, as these come, change and go."""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.agent.announcement import Announcement
from jfe_cni.agent.directory import Directory
from jfe_cni.agent.publication import Publication
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.workload import Event, Workload
from jfe_cni.kernel.namespace import Namespace
from tests.unit.saved_state import saving
from tests.unit.test_agent_workload import POD, V4, V6


class Known:
    """An announcement over a roster of the test's own, and what the directory says after each gathering."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._directory = Directory()
        publication = Publication(self._directory)
        self._announcement = Announcement(self._directory, publication, roster, logging.getLogger("jfe.test"))

    def add(self, workload: Workload) -> Record:
        record = Record(workload, Namespace.own())
        self.roster.add(record)
        return record

    def gathered(self) -> dict[str, str | None]:
        self._announcement.gather()
        return {str(network): entry.identity for (network, _), entry in self._directory.merged().items()}


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    with saving(tmp_path) as file:
        made = Known(Roster(file))
        yield made
        for record in made.roster:
            record.namespace.close()


def pod(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, inode: int) -> Workload:
    covered = dataclasses.replace(POD, id=name, identity=f"spiffe://jfe.local/{name}", namespace=(4, inode))
    return dataclasses.replace(covered, addresses=frozenset({address})).after(Event.PROVEN)


def test_a_workload_is_known_from_when_it_is_covered_until_it_is_released(known: Known) -> None:
    record = known.add(dataclasses.replace(POD, addresses=frozenset({V4})))
    assert known.gathered() == {}
    record.workload = record.workload.after(Event.PROVEN)
    assert known.gathered() == {"10.1.0.5/32": POD.identity}
    record.workload = record.workload.after(Event.RELEASE)
    assert known.gathered() == {}


def test_a_workload_is_known_by_the_addresses_that_it_has_now(known: Known) -> None:
    record = known.add(pod("a", V4, 1))
    known.add(pod("b", ipaddress.ip_address("10.1.0.6"), 2))
    known.gathered()
    record.workload = dataclasses.replace(record.workload, addresses=frozenset({V6}))
    assert known.gathered() == {"fd00::5/128": "spiffe://jfe.local/a", "10.1.0.6/32": "spiffe://jfe.local/b"}


def test_an_address_that_one_of_two_gives_up_is_still_the_others(known: Known) -> None:
    known.add(pod("a", V4, 1))
    known.gathered()
    second = known.add(pod("b", V4, 2))
    assert known.gathered() == {"10.1.0.5/32": "spiffe://jfe.local/b"}
    known.roster.remove(second)
    assert known.gathered() == {"10.1.0.5/32": "spiffe://jfe.local/a"}
