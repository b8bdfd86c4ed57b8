"""Which of two host workloads has a port whose listeners were made for both."""

from __future__ import annotations

import dataclasses
import ipaddress

from jfe_cni.agent.announcement import entries_of
from jfe_cni.agent.lent_ports import holders, trouble, yielded
from jfe_cni.agent.objects import Target
from jfe_cni.agent.workload import State, Workload


def unit(name: str, *ports: int) -> Workload:
    return Workload(name, Target("unit", f"{name}.service"), "strict", f"spiffe://d/{name}", lent_ports=ports)


def test_a_port_that_two_hold_is_one_workloads_the_first_by_its_id() -> None:
    a, b = unit("a", 80), unit("b", 80, 443)
    held = holders([b, a], {})
    assert held == {80: "a", 443: "b"}
    assert (yielded(a, held), yielded(b, held)) == ({}, {80: "a"})


def test_whoever_had_it_keeps_it_as_long_as_it_listens_there() -> None:
    a, b = unit("a", 80), unit("b", 80)
    assert holders([a, b], {80: "b"}) == {80: "b"}
    assert holders([a, unit("b")], {80: "b"}) == {80: "a"}
    assert holders([a], {80: "b"}) == {80: "a"}


def test_who_has_it_not_is_told_whose_it_is() -> None:
    assert trouble({}) is None
    assert "port 80 is a's" in (trouble({80: "a"}) or "")


def test_the_directory_names_a_port_for_its_holder_alone() -> None:
    address = frozenset({ipaddress.ip_address("10.1.0.5")})
    b = dataclasses.replace(unit("b", 80), state=State.COVERED, addresses=address, listener_ports=(80, 81))
    assert [entry.port for entry in entries_of(b, {80: "a"})] == [81]
