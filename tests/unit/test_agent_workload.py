"""A workload's life: which state follows which, and what of it survives a restart of the agent."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from jfe_cni.agent.announcement import entries_of
from jfe_cni.agent.messages import Listeners
from jfe_cni.agent.objects import DirectoryEntry, Target, WorkloadSettings
from jfe_cni.agent.state_file import SavedDirectory
from jfe_cni.agent.targets import default_name
from jfe_cni.agent.workload import Certificate, Event, State, Workload, same_thing
from jfe_cni.errors import ConflictError
from jfe_cni.rules.model import Cgroup, ConnectionTuple, Proof
from tests.unit.saved_state import saving

V4 = ipaddress.ip_address("10.1.0.5")
V6 = ipaddress.ip_address("fd00::5")
POD = Workload("pod", Target("netns", "/run/netns/pod"), "strict", "spiffe://jfe.local/x/pod", namespace=(4, 77))
UNIT = Workload(
    "web",
    Target("unit", "web.service"),
    "permissive",
    "spiffe://jfe.local/x/web",
    cgroup=Cgroup("system.slice/web.service", 2),
)


def life(*events: Event) -> list[State]:
    workload, states = POD, []
    for event in events:
        workload = workload.after(event)
        states.append(workload.state)
    return states


def test_a_workload_is_enrolled_covered_and_released() -> None:
    assert life(Event.PROVEN, Event.RELEASE) == [State.COVERED, State.RELEASING]


def test_a_lost_upgrader_closes_a_workload_until_the_next_one_is_proven() -> None:
    assert life(Event.PROVEN, Event.UPGRADER_LOST, Event.PROVEN) == [State.COVERED, State.CLOSED, State.COVERED]


def test_changed_rules_are_mended() -> None:
    assert life(Event.PROVEN, Event.RULES_CHANGED, Event.PROVEN) == [State.COVERED, State.MENDING, State.COVERED]


def test_rules_that_change_without_an_upgrader_leave_the_workload_closed() -> None:
    assert life(Event.PROVEN, Event.UPGRADER_LOST, Event.RULES_CHANGED)[-1] is State.CLOSED


def test_a_release_that_failed_half_way_can_be_asked_for_again() -> None:
    assert life(Event.PROVEN, Event.RELEASE, Event.RELEASE)[-1] is State.RELEASING


@pytest.mark.parametrize("event", [Event.UPGRADER_LOST, Event.RULES_CHANGED, Event.VANISHED])
def test_nothing_but_proof_or_release_ends_an_enrolment(event: Event) -> None:
    with pytest.raises(ConflictError, match="enrolling"):
        POD.after(event)


@pytest.mark.parametrize("event", [Event.PROVEN, Event.UPGRADER_LOST, Event.RULES_CHANGED])
def test_a_workload_that_is_being_released_never_comes_back(event: Event) -> None:
    with pytest.raises(ConflictError):
        POD.after(Event.RELEASE).after(event)


def test_the_directory_names_a_workload_from_the_moment_it_is_covered_until_it_is_released() -> None:
    published = {
        state: bool(entries_of(Workload(**(vars(POD) | {"state": state, "addresses": frozenset({V4})}))))
        for state in State
    }
    assert published == {
        State.ENROLLING: False,
        State.COVERED: True,
        State.CLOSED: True,
        State.MENDING: True,
        State.ABSENT: False,
        State.RELEASING: False,
    }


def test_a_host_workload_is_known_by_the_ports_it_listens_on_and_no_others() -> None:
    covered = Workload(
        **(vars(UNIT) | {"state": State.COVERED, "addresses": frozenset({V4, V6}), "listener_ports": (443, 8080)})
    )
    assert [(str(entry.network), entry.port) for entry in entries_of(covered)] == [
        ("10.1.0.5/32", 443),
        ("10.1.0.5/32", 8080),
        ("fd00::5/128", 443),
        ("fd00::5/128", 8080),
    ]


def test_a_proof_takes_the_trouble_away() -> None:
    troubled = Workload(**(vars(POD) | {"trouble": "the authority is away"}))
    assert troubled.after(Event.PROVEN).trouble is None
    assert troubled.after(Event.RELEASE).trouble == "the authority is away"


def test_two_names_of_one_namespace_are_one_thing() -> None:
    other = Workload("other", Target("pid", "12"), "strict", "spiffe://jfe.local/x/o", namespace=(4, 77))
    assert same_thing(POD, other)
    assert not same_thing(POD, UNIT)
    assert not same_thing(POD, Workload(**(vars(other) | {"namespace": (4, 78)})))


def test_a_saved_workload_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = [
        Workload(
            **(
                vars(POD)
                | {
                    "state": State.COVERED,
                    "addresses": frozenset({V4, V6}),
                    "listeners": Listeners(61000, 61001, True),
                    "certificate": Certificate(1.5, 2.5, ("ab", "cd"), frozenset({V4})),
                    "proof": Proof("ab", "cd"),
                    "bare": (ConnectionTuple(V4, 5, ipaddress.ip_address("10.9.9.9"), 80),),
                    "settings": WorkloadSettings(
                        excluded_outbound_ports=(53,),
                        excluded_outbound_networks=(ipaddress.ip_network("10.9.0.0/16"),),
                        verify_source=False,
                    ),
                }
            )
        ),
        UNIT,
    ]
    pushed = DirectoryEntry(ipaddress.ip_network("10.2.0.0/16"), 80, "spiffe://jfe.local/y", "wished", (22,))
    read = DirectoryEntry(ipaddress.ip_network("fd00::/64"), source="file")
    for directory in (SavedDirectory((pushed,), (read,)), SavedDirectory((pushed,), ()), SavedDirectory()):
        with saving(tmp_path) as file:
            file.save(saved)
            file.save_directory(directory)
        with saving(tmp_path) as file:
            assert file.load() == (sorted(saved, key=lambda each: each.id), directory)
    assert (tmp_path / "workloads.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["workloads.db"]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target("netns", "/run/netns/Pod_A"), "pod-a"),
        (Target("pid", "4711"), "pid-4711"),
        (Target("unit", "getty@tty1.service"), "getty-tty1-service"),
        (Target("cgroup", "/jfe/n1/run/web/"), "web"),
        (Target("cgroup", "/..."), "cgroup"),
        (Target("unit", "x" * 100), "x" * 64),
    ],
)
def test_a_workload_without_a_name_is_named_after_what_it_is(target: Target, name: str) -> None:
    assert default_name(target) == name
