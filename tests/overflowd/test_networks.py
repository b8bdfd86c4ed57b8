"""Two networks, then five: floods between them are told to both true ends by the networks in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.overflowd.networks import ENDS, Networks, networks
from tests.stage.deadline import eventually

PACKETS = 20_000


def notices(stage: Networks, end: str, **wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.shown(end, "/api/notices?most=500")["notices"]
    return [each for each in found if all(wanted[name] == value_of(each, name) for name in wanted)]


def nothing_is_under_way(stage: Networks, end: str) -> None:
    """What exporters have seen by now has been told: a flood from a to s, which both t1 and t2 carry, comes after it
    through each exporter, reporter and outbox. `end`: of these, one that little was told: its budget is not used up."""
    stage.flood("a", "s", PACKETS)
    for carrier in ("t1", "t2"):
        marked = {"source": ENDS["a"], "destination": ENDS["s"], "by": f"{carrier}.example"}
        eventually(lambda: notices(stage, end, **marked), f"{end} is told of it by {carrier}")  # noqa: B023
        eventually(lambda: stage.all_ended(carrier), f"{carrier} has told of all")  # noqa: B023


def value_of(each: dict[str, Any], name: str) -> str:
    notice = each["notice"]
    places = {"source": notice["flow"]["source"], "destination": notice["flow"]["destination"]}
    value: str = (places | {"to": notice["to"], "classified": notice["class"], "by": each["domain"]})[name]
    return value


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Networks]:
    """One that floods, and the one between."""
    with networks(tmp_path, ["a", "t1", "v"]) as stage:
        for end in ("a", "v"):
            stage.receive(end)
        stage.report("t1")
        yield stage


def test_both_ends_of_a_flood_are_told_by_the_network_between(two: Networks) -> None:
    two.flood("a", "v", PACKETS)
    for end, told in (("v", "destination"), ("a", "source")):
        got = eventually(lambda: notices(two, end, to=told, source=ENDS["a"], by="t1.example"), f"{end} is told")  # noqa: B023
        assert got[0]["notice"]["reporter"]["organisation"] == "Network t1"
        assert got[0]["notice"]["flow"]["destination"] == ENDS["v"]


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Networks]:
    """Whoever floods, whose address is forged, where it goes, and two that carry: the way back is not the way there."""
    with networks(tmp_path, ["a", "s", "v", "t1", "t2"]) as stage:
        for end in ("a", "s", "v"):
            stage.receive(end)
        for carrier in ("t1", "t2"):
            stage.report(carrier)
        yield stage


def test_of_an_asymmetric_path_each_network_tells_of_what_it_has_carried(five: Networks) -> None:
    five.flood("a", "v", PACKETS)
    # What comes back goes by t2, and by t1 for the last part.
    five.flood("v", "a", PACKETS)
    ways = [(("a", "v"), {"t1.example"}), (("v", "a"), {"t1.example", "t2.example"})]

    def carried(end: str, way: tuple[str, str]) -> set[str]:
        ends = {"source": ENDS[way[0]], "destination": ENDS[way[1]]}
        return {each["domain"] for each in notices(five, end, **ends)}

    for end in ("a", "v"):
        for way, carriers in ways:
            eventually(lambda: carried(end, way) >= carriers, f"{end} hears of what {way} sent from {carriers}")  # noqa: B023
    nothing_is_under_way(five, "s")
    for end in ("a", "v"):
        for way, carriers in ways:
            assert carried(end, way) == carriers
    assert {value_of(each, "classified") for each in notices(five, "v")} == {"traffic"}


def test_whose_address_is_forged_is_told_so_and_from_which_side_it_came(five: Networks) -> None:
    five.flood("a", "v", PACKETS, source=ENDS["s"])
    for end, told in (("s", "source"), ("v", "destination")):
        got = eventually(lambda: notices(five, end, source=ENDS["s"]), f"{end} is told")  # noqa: B023
        for each in got:
            assert (value_of(each, "by"), value_of(each, "to")) == ("t1.example", told)
            assert value_of(each, "classified") == "spoofed-source"
            assert each["notice"]["evidence"] == [
                "it came by another interface than its source's network is reached by",
            ]
    nothing_is_under_way(five, "a")
    assert [each for each in notices(five, "a") if value_of(each, "destination") != ENDS["s"]] == []
    assert {value_of(each, "source") for each in notices(five, "a")} == {ENDS["a"]}


def test_a_source_that_two_networks_see_come_from_where_it_is_not_is_certainly_forged(five: Networks) -> None:
    """On its way from a to s what is said to be of v passes t1 and t2; neither has it from where v is."""
    five.flood("a", "s", PACKETS, source=ENDS["v"])
    for end in ("s", "v"):
        peer = eventually(lambda: peer_of_both(five, end), f"{end} hears of it from both")  # noqa: B023
        assert peer["reporters-that-find-it-spoofed"] == ["t1.example", "t2.example"]
        assert peer["spoofed"] == "certain"


def test_what_is_sent_and_forged_as_well_is_told_with_who_finds_what(five: Networks) -> None:
    """a forges what s sends as well: t1 has it from a, t2 from s itself."""
    five.flood("s", "v", PACKETS)
    five.flood("a", "v", PACKETS, source=ENDS["s"])
    peer = eventually(lambda: peer_of_both(five, "v"), "v hears of it from both")
    assert peer["reporters-that-find-it-spoofed"] == ["t1.example"]
    assert peer["reporters-that-do-not"] == ["t2.example"]
    assert peer["spoofed"] == "suspected"


def peer_of_both(stage: Networks, end: str) -> dict[str, Any]:
    for flood in stage.shown(end, "/api/floods")["floods"]:
        for peer in flood["peers"]:
            if peer["reporters"] == ["t1.example", "t2.example"]:
                return dict(peer)
    return {}
