"""Of many notices, who floods whom."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from jfe_cni.overflowd.notices.notice import Class, End, Notice
from jfe_cni.overflowd.receiver.aggregation import (
    MANY,
    MINUTE,
    MOST_ADDRESSES,
    MOST_OF_ONE,
    MOST_PER_NOTICE,
    MOST_REPORTERS,
    MOST_SOURCES,
    QUIET,
    Floods,
    Side,
    Spoofed,
    Timeline,
)
from jfe_cni.overflowd.receiver.views import flood_view
from tests.overflowd.test_notices import NOTICE

NOW = NOTICE.made
SOURCE = ip_address("198.51.100.1")


def told(classified: Class = Class.FAN_IN, odds: float = 1e-5, to: End = End.DESTINATION, **flow: Any) -> Notice:
    return replace(NOTICE, classified=classified, odds=odds, to=to, flow=replace(NOTICE.flow, **flow))


def take(floods: Floods, *notices: tuple[str, Notice], at: int = NOW) -> None:
    for domain, notice in notices:
        floods.take(at, domain, notice)


def test_a_flood_is_what_goes_to_one_address_of_one_service() -> None:
    floods = Floods()
    take(
        floods,
        *(("a.example", told(source=ip_address(f"198.51.{n}.9"), destination_port=1_024 + n)) for n in range(40)),
        ("a.example", told(destination=ip_address("203.0.113.10"))),
        ("a.example", told(protocol=6, source_port=40_000, destination_port=443)),
        ("a.example", told(protocol=1, source_port=0, destination_port=0)),
    )
    found = {(each.name.target, each.name.protocol, each.name.side, each.name.port): each for each in floods}
    assert found.keys() == {
        ("203.0.113.9", 17, Side.FROM, 53),
        ("203.0.113.10", 17, Side.FROM, 53),
        ("203.0.113.9", 6, Side.TO, 443),
        ("203.0.113.9", 1, Side.NONE, 0),
    }
    reflected = found["203.0.113.9", 17, Side.FROM, 53]
    assert (reflected.whole.notices, len(reflected.sources)) == (40, 40)


def test_packets_are_estimated_by_the_network_that_tells_of_most() -> None:
    floods = Floods()
    take(floods, *[("a.example", told(odds=1e-5))] * 3, *[("b.example", told(odds=1e-6))] * 2)
    (flood,) = floods
    assert flood.whole.estimate == 2_000_000, "not 2,300,000: these may be the same packets"


def test_odds_that_nobody_has_in_earnest_make_no_more_than_a_bound() -> None:
    for odds in (5e-324, 1e-300, 1e-9):
        floods = Floods()
        take(floods, ("a.example", told(odds=odds)))
        (flood,) = floods
        assert flood.whole.estimate == MOST_PER_NOTICE
        json.dumps(flood_view(flood), allow_nan=False)


def test_a_source_is_certainly_spoofed_where_two_networks_find_it_so() -> None:
    floods = Floods()
    spoofed = told(Class.SPOOFED_SOURCE)
    take(floods, ("a.example", spoofed), ("a.example", spoofed), ("b.example", told()))
    (flood,) = floods
    assert (flood.spoofed, flood.certainly_spoofed) == (Spoofed.SUSPECTED, 0), "one network, however often"

    take(floods, ("b.example", told(Class.SPOOFED_SOURCE, source=ip_address("198.51.100.2"))))
    assert flood.spoofed is Spoofed.SUSPECTED, "each of them another source, though of one prefix"

    take(floods, ("b.example", spoofed))
    assert (flood.spoofed, flood.certainly_spoofed) == (Spoofed.CERTAIN, 1)
    assert flood.addresses[SOURCE].unforged == {"b.example"}


def test_two_names_of_one_domain_are_one_network_and_make_nothing_certain() -> None:
    spoofed = told(Class.SPOOFED_SOURCE)
    for two, certain in (
        (("a.evil.example", "b.evil.example"), False),
        (("evil.example", "a.b.evil.example"), False),
        (("a.evil.co.uk", "b.evil.co.uk"), False),
        (("good.co.uk", "evil.co.uk"), True),
        (("evil.example", "good.example"), True),
    ):
        floods = Floods()
        take(floods, *((domain, spoofed) for domain in two))
        (flood,) = floods
        assert flood.spoofed is (Spoofed.CERTAIN if certain else Spoofed.SUSPECTED), two
        assert len(flood.networks) == 1 + certain


def test_who_invents_floods_drives_out_its_own() -> None:
    floods = Floods(most=64)
    real = ("a.example", told(destination=ip_address("203.0.113.1")))
    both = told(destination=ip_address("203.0.113.2"))
    take(floods, real, ("b.example", both))
    for number in range(1_000):
        invented = told(destination=ip_address(0x0A000000 + number))
        # Whatever it says of those that are real, too.
        take(floods, (f"n{number}.evil.example", invented), ("evil.example", both), ("other.example", invented))
    assert len(floods) <= 64
    targets = {each.name.target for each in floods}
    assert {"203.0.113.1", "203.0.113.2", "10.0.3.231"} <= targets


def test_names_of_one_domain_leave_room_for_other_reporters() -> None:
    floods = Floods()
    take(floods, *((f"n{number}.evil.example", told()) for number in range(MOST_REPORTERS)), ("a.example", told()))
    (flood,) = floods
    assert len(flood.whole.packets) == MOST_OF_ONE + 1
    assert "a.example" in flood.whole.packets


def test_who_is_forged_hears_by_whom_it_is_seen() -> None:
    floods = Floods()
    for number in range(3):
        victim = ip_address(f"203.0.{number}.9")
        for domain in ("a.example", "b.example"):
            take(floods, (domain, told(Class.SPOOFED_SOURCE, to=End.SOURCE, destination=victim)))
    (flood,) = floods
    assert (flood.name.told, flood.name.target) == (End.SOURCE, str(SOURCE))
    assert (flood.spoofed, flood.certainly_spoofed) == (Spoofed.CERTAIN, 1)
    assert flood.sources.keys() == {f"203.0.{number}.0/24" for number in range(3)}
    assert flood.addresses[SOURCE].forged == {"a.example", "b.example"}


def test_what_is_shown_as_json_says_who_and_through_whom() -> None:
    floods = Floods()
    take(floods, *[("a.example", told(Class.SPOOFED_SOURCE))] * 2, ("b.example", told(source=ip_address("192.0.2.7"))))
    (flood,) = floods
    shown = flood_view(flood)
    assert (shown["target"], shown["protocol"], shown["side"], shown["port"]) == ("203.0.113.9", 17, "from", 53)
    assert (shown["notices"], shown["packets"]) == (3, 200_000)
    assert shown["classes"] == {"fan-in": 1, "spoofed-source": 2}
    assert [(each["domain"], each["packets"]) for each in shown["reporters"]] == [
        ("a.example", 200_000),
        ("b.example", 100_000),
    ]
    assert [(each["network"], each["notices"], each["spoofed"]) for each in shown["peers"]] == [
        ("198.51.100.0/24", 2, "suspected"),
        ("192.0.2.0/24", 1, "not-known"),
    ]
    assert shown["evidence"][0] == {"domain": "a.example", "evidence": NOTICE.evidence[0]}


def test_after_a_quiet_time_it_is_another_flood() -> None:
    floods = Floods()
    first = floods.take(NOW, "a.example", told())
    assert first is not None
    assert floods.take(NOW + QUIET, "a.example", told()) is None
    second = floods.take(NOW + 2 * QUIET + 1, "a.example", told())
    assert second is not None
    assert second is not first
    assert (second.since, second.whole.notices) == (NOW + 2 * QUIET + 1, 1)
    assert list(floods) == [second]


def test_plain_traffic_is_remarkable_from_many_notices_on() -> None:
    floods = Floods()
    plain = [floods.take(NOW, "a.example", told(Class.TRAFFIC)) is not None for _ in range(MANY + 5)]
    assert plain == [False] * (MANY - 1) + [True] + [False] * 5
    assert Floods().take(NOW, "a.example", told(Class.REPORTED)) is not None


def test_whatever_comes_no_more_is_remembered_than_may_be() -> None:
    floods = Floods(most=3)
    for number in range(20):
        take(floods, ("a.example", told(destination=ip_address(f"203.0.113.{number}"))))
    assert [each.name.target for each in floods] == ["203.0.113.19", "203.0.113.18", "203.0.113.17"]

    floods = Floods()
    for number in range(5 * MOST_SOURCES):
        take(floods, (f"{number}.example", told(source=ip_address(0x0A000000 + number * 256))))
    (flood,) = floods
    assert (len(flood.sources), flood.others) == (MOST_SOURCES, 4 * MOST_SOURCES)
    assert len(flood.addresses) == MOST_ADDRESSES
    assert len(flood.organisations) == len(flood.whole.packets) == MOST_REPORTERS
    assert flood.whole.notices == 5 * MOST_SOURCES


def test_the_timeline_has_each_minute_and_its_classes() -> None:
    timeline, start = Timeline(minutes=3), NOW // MINUTE * MINUTE
    for minute in range(5):
        for _ in range(minute):
            timeline.take(start + minute * MINUTE + 7, Class.FAN_IN)
    timeline.take(start + 4 * MINUTE, Class.REPORTED)
    found = timeline.until(start + 5 * MINUTE)
    assert [at for at, _ in found] == [start + minute * MINUTE for minute in (3, 4, 5)]
    assert [dict(counts) for _, counts in found] == [{Class.FAN_IN: 3}, {Class.FAN_IN: 4, Class.REPORTED: 1}, {}]
