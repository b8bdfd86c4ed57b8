"""What raises the odds: addresses of known networks, and many sources of one destination."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders.flows import FLOW, NO_DIRECTION, Flows
from jfe_cni.overflowd.notices.notice import Class, Direction, Reporter, decode, encode
from jfe_cni.overflowd.selection.duplicates import Observer
from jfe_cni.overflowd.selection.fan_in import MOST_TOLD, FanIn
from jfe_cni.overflowd.selection.interfaces import Interface, Interfaces
from jfe_cni.overflowd.selection.odds import LARGEST, Draw
from jfe_cni.overflowd.selection.prefixes import Prefixes
from jfe_cni.overflowd.selection.routes import Route, Routes
from jfe_cni.overflowd.selection.selector import Selector, traced
from jfe_cni.overflowd.selection.suspicion import CLASSES, SIDES, Side, Site, forged, suspect


def wide(*addresses: str) -> npt.NDArray[np.uint8]:
    raw = b"".join(IPv6Address(each if ":" in each else f"::ffff:{each}").packed for each in addresses)
    return np.frombuffer(raw, "u1").reshape(-1, 16)


def numbered(count: int, net: int) -> npt.NDArray[np.uint8]:
    return wide(*(f"10.{net}.{number >> 8}.{number & 255}" for number in range(count)))


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    address = draw(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
    length = draw(st.integers(0, address.max_prefixlen))
    return ip_network((address.packed, length), strict=False)


@given(st.lists(networks(), max_size=8), st.lists(st.ip_addresses(v=4), max_size=8), st.data())
def test_an_address_is_inside_where_one_of_the_prefixes_has_it(
    known: list[IPv4Network | IPv6Network], narrow: list[object], data: st.DataObject
) -> None:
    # The ends of each prefix, and what is next to them.
    ends = [int(each.network_address) + by for each in known if each.version == 4 for by in (-1, 0)]
    ends += [int(each.broadcast_address) + by for each in known if each.version == 4 for by in (0, 1)]
    asked = [f"::ffff:{end >> 16:x}:{end & 0xFFFF:x}" for end in ends if 0 <= end < 2**32]
    asked += [f"::ffff:{each}" for each in narrow]
    asked += [str(each) for each in data.draw(st.lists(st.ip_addresses(v=6), max_size=8))]
    asked += [str(each.broadcast_address) for each in known if each.version == 6]
    assert Prefixes(known).contain(wide(*asked)).tolist() == [_inside(each, known) for each in asked]


def _inside(text: str, known: list[IPv4Network | IPv6Network]) -> bool:
    address = IPv6Address(text)
    return any(
        address in each if each.version == 6 else address.ipv4_mapped is not None and address.ipv4_mapped in each
        for each in known
    )


def test_of_no_prefixes_nothing_is_inside() -> None:
    assert not Prefixes([])
    assert list(Prefixes([]).contain(wide("192.0.2.1"))) == [False]


@pytest.mark.parametrize("sources", [1, 10, 50, 200, 500])
def test_sources_of_a_destination_are_counted_about(sources: int) -> None:
    counted = FanIn(seed=1)
    told = counted.count(numbered(sources, 1), np.repeat(wide("203.0.113.9"), sources, axis=0), at=0)
    assert told[-1] == pytest.approx(sources, rel=0.25, abs=1)


def test_more_sources_than_can_be_told_are_very_many() -> None:
    told = FanIn(seed=1).count(numbered(9_000, 1), np.repeat(wide("203.0.113.9"), 9_000, axis=0), at=0)
    assert told[-1] >= MOST_TOLD - 1


def test_other_destinations_are_not_made_more_of_by_a_flood_of_one() -> None:
    counted = FanIn(seed=1)
    counted.count(numbered(9_000, 1), np.repeat(wide("203.0.113.9"), 9_000, axis=0), at=0)
    quiet = counted.count(np.repeat(wide("192.0.2.1"), 1_000, axis=0), numbered(1_000, 2), at=1)
    assert np.quantile(quiet, 0.99) < 3


def test_the_same_source_again_is_one() -> None:
    counted = FanIn(seed=1)
    for _ in range(50):
        told = counted.count(wide("192.0.2.1"), wide("203.0.113.9"), at=5)
    assert told[0] == pytest.approx(1, abs=0.1)


def test_what_was_long_ago_is_forgotten() -> None:
    counted = FanIn(seed=1, window=100)
    flood = numbered(200, 1), np.repeat(wide("203.0.113.9"), 200, axis=0)
    one = wide("192.0.2.1"), wide("203.0.113.9")
    counted.count(*flood, at=1_000)
    assert counted.count(*one, at=1_150)[0] > 100, "of the window before"
    assert counted.count(*one, at=1_250)[0] < 3
    counted.count(*flood, at=1_260)
    assert counted.count(*one, at=9_000)[0] < 3


def test_a_clock_that_is_set_back_begins_anew() -> None:
    counted = FanIn(seed=1, window=100)
    flood = numbered(200, 1), np.repeat(wide("203.0.113.9"), 200, axis=0)
    one = wide("192.0.2.1"), wide("203.0.113.9")
    counted.count(*flood, at=900_000)
    assert counted.count(*one, at=1_000)[0] < 3
    counted.count(*flood, at=1_010)
    assert counted.count(*one, at=1_250)[0] < 3, "windows turn"


def test_on_a_busy_site_not_everybody_is_a_fan_in() -> None:
    """Each of very many destinations has one source, within two minutes."""
    counted, chance = FanIn(seed=1), np.random.Generator(np.random.PCG64(7))
    for millions in range(1, 37):
        sources, destinations = chance.integers(0, 256, (2, 1_000_000, 16), "u1")
        told = counted.count(sources, destinations, at=0)
        if millions in (16, 34, 36):
            assert np.mean(told >= Site().many) < 1e-4
            flood = numbered(600, 1), np.repeat(wide(f"203.0.113.{millions}"), 600, axis=0)
            # Where bitmaps are full of others' they tell nothing.
            assert (counted.count(*flood, at=0)[-1] >= Site().many) == (millions < 35)


OWN = Prefixes([ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")])
OUTSIDE, INSIDE = 7, 1
REPORTER = Reporter("noc@carrier.example", "A Carrier", 64_500, "https://carrier.example/keys.json")
EXTERNAL = Interfaces([Interface(OUTSIDE)])


def flows_of(*rows: tuple[str, str, int, int]) -> Flows:
    """Source, destination, and the interfaces in and out."""
    flows = np.zeros(len(rows), FLOW)
    flows["source"], flows["destination"] = wide(*(row[0] for row in rows)), wide(*(row[1] for row in rows))
    flows["input"], flows["output"] = [row[2] for row in rows], [row[3] for row in rows]
    flows["packets"], flows["sampling"] = 3, 1_000
    return flows


def test_a_source_that_cannot_be_there_is_forged() -> None:
    site = Site(own=OWN, external=EXTERNAL)
    found = forged(
        flows_of(
            ("198.51.100.1", "203.0.113.9", OUTSIDE, INSIDE),  # ours, from outside
            ("203.0.113.9", "198.51.100.1", OUTSIDE, INSIDE),
            ("198.51.100.1", "203.0.113.9", INSIDE, OUTSIDE),
            ("192.0.2.1", "203.0.113.9", INSIDE, OUTSIDE),  # not ours, from inside
            ("192.0.2.1", "203.0.113.9", OUTSIDE, OUTSIDE),  # passes through
            ("192.0.2.1", "203.0.113.9", 0, OUTSIDE),  # it is not told where from
            ("2001:db8::1", "2001:db9::1", OUTSIDE, INSIDE),  # ours, from outside
        ),
        site,
    )
    outside, inside, no = Side.OUTSIDE, Side.INSIDE, Side.NOT_FORGED
    assert [SIDES[side] for side in found] == [outside, no, no, inside, no, no, outside]


def test_without_knowing_itself_a_network_calls_nothing_forged() -> None:
    flows = flows_of(("192.0.2.1", "203.0.113.9", INSIDE, OUTSIDE))
    assert not forged(flows, Site(external=EXTERNAL)).any()
    assert not forged(flows, Site(own=OWN)).any()


def test_what_leaves_a_carrier_of_others_traffic_may_have_come_in_elsewhere() -> None:
    passing = flows_of(("192.0.2.1", "203.0.113.9", INSIDE, OUTSIDE))
    assert forged(passing, Site(own=OWN, external=EXTERNAL)).any()
    assert not forged(passing, Site(own=OWN, external=EXTERNAL, transit=True)).any()


@pytest.mark.parametrize("agent", ["192.0.2.1", "10.0.0.1"])
@pytest.mark.parametrize("named", ["192.0.2.1", "10.0.0.1", None])
def test_an_interface_is_named_by_who_sends_or_by_the_agent_in_it(agent: str, named: str | None) -> None:
    interface = Interface(OUTSIDE, None if named is None else ip_address(named))
    external = Interfaces([interface, Interface(INSIDE, ip_address("192.0.2.7"))])
    site = Site(own=OWN, external=external, odds=dict.fromkeys(Class, LARGEST))
    selector = Selector(site, REPORTER, Draw(1), FanIn(1), nonce=lambda: "0123456789abcdef")
    flows = flows_of(("198.51.100.1", "203.0.113.9", OUTSIDE, INSIDE))
    observer = Observer(ip_address(agent), exporter=ip_address("192.0.2.1"))
    told = selector.notices(flows, 1_700_000_000_000_000, observer)
    assert [notice.classified for notice in told] == (
        [Class.SPOOFED_SOURCE] if named in (None, agent, "192.0.2.1") else []
    )


def test_of_two_names_the_routes_of_who_sends_count() -> None:
    sender, agent = ip_address("192.0.2.1"), ip_address("10.0.0.1")
    network = ip_network("203.0.113.0/24")
    routes = Routes([Route(network, (Interface(INSIDE, sender),)), Route(network, (Interface(OUTSIDE, agent),))])
    flows = flows_of(("203.0.113.9", "198.51.100.1", OUTSIDE, INSIDE))
    assert forged(flows, Site(routes=routes), sender, agent).any()
    assert not forged(flows, Site(routes=routes), agent).any()


def test_odds_rise_by_what_is_suspected_and_never_above_the_cap() -> None:
    site = Site(
        own=OWN,
        external=EXTERNAL,
        reported=Prefixes([ip_network("203.0.113.66/32")]),
        many=20,
        odds={Class.TRAFFIC: 1e-6, Class.FAN_IN: 1e-5, Class.SPOOFED_SOURCE: 1e-4, Class.REPORTED: 0.5},
    )
    rows = [(f"192.0.2.{number}", "203.0.113.9", OUTSIDE, INSIDE) for number in range(60)]
    rows += [
        ("192.0.2.1", "203.0.113.7", OUTSIDE, INSIDE),
        ("198.51.100.1", "203.0.113.7", OUTSIDE, INSIDE),
        ("192.0.2.1", "203.0.113.66", OUTSIDE, INSIDE),
    ]
    found = suspect(flows_of(*rows), site, FanIn(seed=1), at=0)
    assert [CLASSES[number] for number in found.classes[59:]] == [
        Class.FAN_IN,
        Class.TRAFFIC,
        Class.SPOOFED_SOURCE,
        Class.REPORTED,
    ]
    assert found.odds[59:].tolist() == [1e-5, 1e-6, 1e-4, LARGEST]


@pytest.mark.parametrize(("column", "told"), [(0, Direction.INGRESS), (1, Direction.EGRESS), (NO_DIRECTION, None)])
def test_a_notice_says_in_which_direction_the_flow_was_seen(column: int, told: Direction | None) -> None:
    flows = flows_of(("198.51.100.1", "203.0.113.9", OUTSIDE, INSIDE))
    flows["direction"] = column
    assert traced(flows[0]).direction is told


def test_a_notice_says_what_was_seen_and_nothing_of_interfaces() -> None:
    site = Site(own=OWN, external=EXTERNAL, odds=dict.fromkeys(Class, LARGEST))
    selector = Selector(site, REPORTER, Draw(1), FanIn(1), nonce=lambda: "0123456789abcdef")
    flows = flows_of(("198.51.100.1", "203.0.113.9", OUTSIDE, INSIDE))
    (notice,) = selector.notices(flows, at=1_700_000_000_000_000)
    assert (str(notice.flow.source), str(notice.flow.destination)) == ("198.51.100.1", "203.0.113.9")
    assert (notice.classified, notice.odds, notice.flow.sampling) == (Class.SPOOFED_SOURCE, LARGEST, 1_000)
    assert notice.evidence == (Side.OUTSIDE.value,)
    assert decode(encode(notice)) == notice
    assert selector.notices(flows[:0], at=0) == []
