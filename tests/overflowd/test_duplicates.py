"""A packet that several routers see has the odds of one: where each is looked at exactly, where not in the mean."""

from __future__ import annotations

import math
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders.flows import FLOW, MAPPED, Flows
from jfe_cni.overflowd.notices.notice import Class, Reporter
from jfe_cni.overflowd.selection.duplicates import WINDOW, Duplicates, Observer
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.interfaces import Interface, Interfaces
from jfe_cni.overflowd.selection.odds import Draw
from jfe_cni.overflowd.selection.prefixes import Prefixes
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import Site

ROUTERS = [Observer(IPv4Address(f"192.0.2.{number}")) for number in range(1, 9)]
SECOND = 1_000_000
START = 1_700_000_000 * SECOND
TARGET = b"\xcb\0\x71\x09"
REPORTER = Reporter("noc@carrier.example", "A Carrier", 64_500, "https://carrier.example/keys.json")


def flood(sources: int, packets: int = 1, sampling: int = 0, target: bytes = TARGET) -> Flows:
    """Of many sources to one destination, a record each."""
    flows = np.zeros(sources, FLOW)
    flows["source"][:, :12] = flows["destination"][:, :12] = MAPPED
    flows["source"][:, 12:] = np.arange(0x0A000000, 0x0A000000 + sources, dtype=">u4").view("u1").reshape(-1, 4)
    flows["destination"][:, 12:] = np.frombuffer(target, "u1")
    flows["protocol"], flows["packets"], flows["sampling"] = 17, packets, sampling
    return flows


def counted(duplicates: Duplicates, flows: Flows, router: Observer, at: int) -> float:
    """As many packets as the records count for."""
    shares = duplicates.shares(flows, router, at)
    return float(np.sum(shares * flows["packets"] * np.maximum(flows["sampling"], 1)))


@given(st.integers(1, 8), st.lists(st.integers(0, WINDOW), min_size=8, max_size=8), st.integers(1, 5))
def test_what_all_routers_look_at_counts_once_however_late_each_tells(
    routers: int, skews: list[int], slices: int
) -> None:
    duplicates, flows = Duplicates(seed=1), flood(50, packets=7)
    told = sorted((START + skews[number], number) for number in range(routers))
    total = 0.0
    for each in range(slices):
        for at, number in told:
            total += counted(duplicates, flows, ROUTERS[number], at + each * 60 * SECOND)
    assert total == pytest.approx(50 * 7 * slices)


def test_a_router_whose_flows_come_to_an_end_leaves_them_to_another() -> None:
    duplicates, flows = Duplicates(seed=1), flood(50)
    assert counted(duplicates, flows, ROUTERS[0], START) == 50
    assert counted(duplicates, flows, ROUTERS[1], START + WINDOW // 2) == 0
    assert counted(duplicates, flows, ROUTERS[1], START + 2 * WINDOW) == 50


BACK = 3 * 3_600 * SECOND


def test_a_clock_that_is_set_back_leaves_no_flow_to_a_router_that_tells_of_it_no_more() -> None:
    duplicates, flows = Duplicates(seed=1), flood(50)
    assert counted(duplicates, flows, ROUTERS[0], START) == 50
    assert counted(duplicates, flows, ROUTERS[1], START - BACK) == 50
    assert counted(duplicates, flows, ROUTERS[0], START - BACK + SECOND) == 0


def test_a_clock_that_is_set_back_lets_paths_change_as_ever() -> None:
    duplicates, flows = Duplicates(seed=1), flood(1_000, sampling=100)
    for second in range(10):
        counted(duplicates, flows, ROUTERS[0], START + second * SECOND)
    totals = [counted(duplicates, flows, ROUTERS[1], START - BACK + slice_ * WINDOW) for slice_ in range(10)]
    assert sum(totals[5:]) == pytest.approx(5 * 1_000 * 100, rel=0.1)


def test_routers_that_see_different_flows_count_all() -> None:
    duplicates, flows = Duplicates(seed=1), flood(800)
    total = sum(counted(duplicates, flows[number::8], router, START) for number, router in enumerate(ROUTERS))
    assert total == 800


def test_line_cards_and_directions_of_one_router_are_as_routers() -> None:
    duplicates, coming = Duplicates(seed=1), flood(50)
    going = coming.copy()
    going["direction"] = 1
    cards = [Observer(ROUTERS[0].address, domain) for domain in (0, 1)]
    total = sum(counted(duplicates, np.concatenate((coming, going)), card, START) for card in cards)
    assert total == 50


@pytest.mark.parametrize("late", [0, 20 * SECOND], ids=["together", "20-seconds-apart"])
@pytest.mark.parametrize("routers", [1, 3, 8])
def test_a_flood_of_sampled_packets_counts_once_in_the_mean(routers: int, late: int) -> None:
    """Each source sends one packet; each router looks at one in a hundred, and mostly not at those of another."""
    chance, total, sources = np.random.Generator(np.random.PCG64(5)), 0.0, 600_000
    duplicates, flows = Duplicates(seed=1), flood(sources, sampling=100)
    told = []
    for second in range(0, 1_200, 20):
        part = flows[second * 500 : (second + 20) * 500]
        for number in range(routers):
            seen = part[chance.random(len(part)) < 1 / 100]
            told.append((START + second * SECOND + number * late, number, seen))
    for at, number, seen in sorted(told, key=lambda each: each[:2]):
        total += counted(duplicates, seen, ROUTERS[number], at)
    # Of 6,000 samples of each router: three times what one of them is off, or the luckiest of eight is; and in the end
    # what the latest tells of late, of twenty minutes.
    again = late * (routers - 1) / (1_200 * SECOND)
    assert (1 - 3 / math.sqrt(6_000)) * sources < total < (1 + 3 / math.sqrt(6_000) + again) * sources


def test_a_flood_that_goes_on_counts_once_in_every_window() -> None:
    chance, duplicates, flows = np.random.Generator(np.random.PCG64(6)), Duplicates(seed=1), flood(20_000, sampling=100)
    totals = []
    for minute in range(8):
        total = 0.0
        for number in range(3):
            seen = flows[chance.random(len(flows)) < 1 / 100]
            total += counted(duplicates, seen, ROUTERS[number], START + minute * 60 * SECOND + number * SECOND)
        totals.append(total / len(flows))
    assert sum(totals) / len(totals) == pytest.approx(1, abs=3 / math.sqrt(8 * 200))


def test_floods_of_many_destinations_do_not_count_for_each_other() -> None:
    """Each behind its own router, and all of them carried by two more."""
    duplicates = Duplicates(seed=1)
    last = {bytes([203, 0, 113, number]): ROUTERS[2 + number % 6] for number in range(60)}
    total = 0.0
    for second in range(30):
        for target, router in last.items():
            for each in (ROUTERS[0], ROUTERS[1], router):
                total += counted(duplicates, flood(40, sampling=10, target=target), each, START + second * SECOND)
    assert total == pytest.approx(60 * 30 * 40 * 10, rel=0.06)


def test_what_is_drawn_of_what_three_routers_tell_is_as_often_as_the_odds_say() -> None:
    """χ² of ten sizes of flows, 20,000 of each, told of by three routers that are seconds apart."""
    selector = Selector(Site(many=10**9), REPORTER, Draw(2016), FanIn(1), Duplicates(1), nonce=lambda: "0" * 22)
    statistic, freedom, count = 0.0, 10, 20_000
    for number, packets in enumerate(np.geomspace(1e3, 1e6, freedom).astype(int).tolist()):
        flows = flood(count, packets, target=bytes([203, 0, 113, number]))
        drawn = sum(
            len(selector.notices(flows, START + turn * 5 * SECOND, router)) for turn, router in enumerate(ROUTERS[:3])
        )
        chance = -math.expm1(packets * math.log1p(-1e-6))
        statistic += (drawn - count * chance) ** 2 / (count * chance * (1 - chance))
    # χ² with ten degrees of freedom: 29.59 is passed once in a thousand times.
    assert statistic < 29.59


def test_ten_million_flows_are_remembered_in_as_much_memory_as_one() -> None:
    """The cells are all there is; what is remembered of more flows than they hold is a part of it."""
    duplicates = Duplicates(seed=1)

    def held() -> int:
        parts = [*vars(duplicates._owned).values(), *vars(duplicates._paths).values()]
        return sum(each.nbytes for each in parts if isinstance(each, np.ndarray))

    before, chance = held(), np.random.Generator(np.random.PCG64(1))
    for _ in range(20):
        flows = flood(100_000)
        flows["source"] = chance.integers(0, 256, (100_000, 16))
        flows["destination"] = chance.integers(0, 256, (100_000, 16))
        duplicates.shares(flows, ROUTERS[0], START)
    assert held() == before < 40_000_000
    assert not [each for each in vars(duplicates).values() if isinstance(each, dict | set | list)]


OUTSIDE, INSIDE, CORE = 7, 1, 2


def test_at_the_border_each_packet_counts_once_sampled_or_not() -> None:
    site = Site(
        own=Prefixes([]),
        external=Interfaces([Interface(OUTSIDE, ROUTERS[0].address), Interface(OUTSIDE, ROUTERS[2].address)]),
        transit=True,
        odds=dict.fromkeys(Class, 1e-2),
    )
    selector = Selector(site, REPORTER, Draw(1), FanIn(1), nonce=lambda: "0" * 22)
    flows = flood(10, packets=10**6)
    # In at the first router, through the second, whose interface 7 leads nowhere outside, and out by the third.
    for router, came, went, expected in (
        (ROUTERS[0], OUTSIDE, CORE, 10),
        (ROUTERS[1], OUTSIDE, INSIDE, 0),
        (ROUTERS[2], CORE, OUTSIDE, 0),
    ):
        flows["input"], flows["output"] = came, went
        assert len(selector.notices(flows, START, router)) == expected


def test_what_is_made_inside_counts_where_it_leaves() -> None:
    external = Interfaces([Interface(OUTSIDE)])
    flows = flood(10, packets=10**6)
    flows["input"], flows["output"] = INSIDE, OUTSIDE
    for own, transit, expected in (
        ("10.0.0.0/8", True, 10),
        ("198.51.100.0/24", True, 0),
        ("198.51.100.0/24", False, 10),
    ):
        site = Site(Prefixes([IPv4Network(own)]), external, transit=transit, odds=dict.fromkeys(Class, 1e-2))
        selector = Selector(site, REPORTER, Draw(1), FanIn(1), nonce=lambda: "0" * 22)
        assert len(selector.notices(flows, START, ROUTERS[0])) == expected, "forged in there, where nothing is carried"
