"""A packet that several routers see has the odds of one: where each is looked at exactly, where not in the mean."""

from __future__ import annotations

import itertools
import math
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders.flows import FLOW, MAPPED, Flows
from jfe_cni.overflowd.notices.notice import Class, Reporter
from jfe_cni.overflowd.selection.duplicates import LAPSE, WINDOW, Duplicates, Observer
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.interfaces import Interface, Interfaces
from jfe_cni.overflowd.selection.odds import Draw
from jfe_cni.overflowd.selection.prefixes import Prefixes
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import Site

ROUTERS = [Observer(IPv4Address(f"192.0.2.{number}")) for number in range(1, 9)]
SECOND = 1_000_000
MINUTE = 60 * SECOND
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


def of_time(flows: Flows, first: int, last: int) -> Flows:
    """Microseconds."""
    timed = flows.copy()
    timed["first"], timed["last"] = first, last
    return timed


def counted(duplicates: Duplicates, flows: Flows, router: Observer, at: int) -> float:
    """As many packets as the records count for."""
    shares = duplicates.shares(flows, router, at)
    return float(np.sum(shares * flows["packets"] * np.maximum(flows["sampling"], 1)))


@given(st.integers(1, 8), st.lists(st.integers(0, WINDOW), min_size=8, max_size=8), st.integers(1, 5))
def test_what_all_routers_look_at_counts_once_however_late_each_tells(
    routers: int, skews: list[int], slices: int
) -> None:
    duplicates, flows, total = Duplicates(seed=1), flood(50, packets=7), 0.0
    told = ((each, number) for each in range(slices) for number in range(routers))
    for each, number in sorted(told, key=lambda told: skews[told[1]] + told[0] * MINUTE):
        end = START + each * MINUTE
        total += counted(duplicates, of_time(flows, end - MINUTE, end), ROUTERS[number], end + skews[number])
    assert total == pytest.approx(50 * 7 * slices)


@given(st.lists(st.tuples(st.integers(60, 300), st.integers(0, 299), st.integers(0, 60)), min_size=2, max_size=8))
def test_routers_that_cut_a_flow_at_other_times_never_count_a_packet_twice(routers: list[tuple[int, int, int]]) -> None:
    """A packet a second for half an hour; of each router the active timeout, when it expires first, and how much later
    that is told."""
    duplicates, slices, end = Duplicates(seed=1), [], 1_800
    for number, (timeout, first, late) in enumerate(routers):
        cuts = [0, *range(min(first, timeout) + 1, end, timeout), end]
        slices += [(to + late, number, since, to) for since, to in itertools.pairwise(cuts)]
    total = 0.0
    for at, number, since, to in sorted(slices):
        part = of_time(flood(1, packets=to - since), START + since * SECOND, START + to * SECOND - 1)
        total += counted(duplicates, part, ROUTERS[number], START + at * SECOND)
    assert end - 300 <= total <= end


def test_a_router_whose_flows_come_to_an_end_leaves_them_to_another() -> None:
    duplicates, flows = Duplicates(seed=1), flood(50)
    assert counted(duplicates, flows, ROUTERS[0], START) == 50
    assert counted(duplicates, flows, ROUTERS[1], START + WINDOW // 2) == 0
    assert counted(duplicates, flows, ROUTERS[1], START + 2 * WINDOW) == 50


@pytest.mark.parametrize("timeout", [60, 300], ids="active-timeout-of-{}".format)
def test_a_flow_that_another_router_takes_over_counts_on_with_its_first_slice_there(timeout: int) -> None:
    duplicates, flows = Duplicates(seed=1), flood(50)
    for end in range(timeout, 901, timeout):
        sliced = of_time(flows, START + (end - timeout) * SECOND, START + end * SECOND - 1)
        assert counted(duplicates, sliced, ROUTERS[0], START + end * SECOND) == 50
    shares = []
    for end in range(900 + timeout, 1_801, timeout):
        sliced = of_time(flows, START + (end - timeout) * SECOND, START + end * SECOND - 1)
        shares.append(counted(duplicates, sliced, ROUTERS[1], START + end * SECOND) / 50)
    # Of a minute the first falls into the silence that the former owner may have.
    assert shares == ([0] + 14 * [1] if timeout == 60 else 3 * [1])


@pytest.mark.parametrize("sampling", [1, 1_000], ids=["all", "one-in-1000"])
def test_a_flood_that_another_router_takes_over_counts_on_within_a_minute_and_a_half(sampling: int) -> None:
    """Of records that don't tell when their packets came, one a second of each flow."""
    duplicates, flows = Duplicates(seed=1), flood(50, packets=20, sampling=sampling)
    totals = [
        counted(duplicates, flows, ROUTERS[second >= 900], START + second * SECOND) / (50 * 20 * sampling)
        for second in range(1_800)
    ]
    assert np.mean(totals[:900]) == 1
    assert np.min(totals[900 + LAPSE + 2 :]) == pytest.approx(1)


def test_routers_that_take_turns_in_telling_of_a_sampled_flood_count_once() -> None:
    """One slice a timeout, all out of step: each is silent for longer than who is gone."""
    for timeout in (60, 120, 300):
        duplicates, total, turns = Duplicates(seed=1), 0.0, 40
        told = ((turn * timeout + number * timeout // 3, number) for turn in range(turns) for number in range(3))
        for second, number in told:
            total += counted(duplicates, flood(1, timeout, sampling=100), ROUTERS[number], START + second * SECOND)
        # Two slices of two minutes are in one window, and three in another.
        assert total == pytest.approx(turns * timeout * 100, rel=0.08)


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


@pytest.mark.parametrize("year", [1900, 1970, 2106, 2347, 290_000])
def test_what_is_of_any_time_counts_once(year: int) -> None:
    duplicates, at = Duplicates(seed=1), (year - 1970) * 31_556_952 * SECOND
    for sampling in (1, 100):
        flows = of_time(flood(50, sampling=sampling, target=bytes([203, 0, 113, sampling])), at + 1, at + 1)
        assert counted(duplicates, flows, ROUTERS[0], at + SECOND) == 50 * sampling
        assert counted(duplicates, flows, ROUTERS[1], at + 2 * SECOND) == 0


MOST = 2**64 - 1, 2**32 - 1
FORGED = Observer(IPv4Address("192.0.2.66"))


def after_each_minute(minutes: int, packets: int, sampling: int, again: bool = False, names: int = 1) -> list[float]:
    """The share that two honest routers have of a flood of 50,000 packets a second, sampled, in each minute after a
    record is forged: after ten minutes, or from then on."""
    duplicates, shares = Duplicates(seed=1), []
    for second in range(0, (10 + minutes) * 60, 6):
        at = START + second * SECOND
        if second == 600 or (again and second > 600):
            for domain in range(names):
                counted(duplicates, flood(1, packets, sampling), Observer(FORGED.address, domain), at)
        honest = flood(30, packets=100, sampling=100)
        shares.append(sum(counted(duplicates, honest, router, at) for router in ROUTERS[:2]) / 300_000)
    assert np.mean(shares[:100]) == pytest.approx(1)
    return [float(each) for each in np.reshape(shares[100:], (-1, 10)).mean(axis=1)]


@pytest.mark.parametrize("names", [1, 20])
@pytest.mark.parametrize("packets", [MOST, (2**40, 1), (10**9, 1), (10**8, 1_000), (10**7, 100)], ids=str)
def test_one_record_however_much_it_tells_of_silences_no_other_exporter_for_two_minutes(
    packets: tuple[int, int], names: int
) -> None:
    shares = after_each_minute(60, *packets, names=names)
    assert shares[0] + shares[1] > 0.25
    assert np.min(shares[2:]) > 0.85
    assert np.mean(shares[2:]) == pytest.approx(1, abs=0.02)


def test_who_claims_a_flow_once_keeps_it_from_the_router_that_sees_it_for_one_slice() -> None:
    duplicates, flows, shares = Duplicates(seed=1), flood(50), []
    counted(duplicates, flows, FORGED, START)
    for end in range(60, 601, 60):
        sliced = of_time(flows, START + (end - 60) * SECOND, START + end * SECOND - 1)
        shares.append(counted(duplicates, sliced, ROUTERS[0], START + (end + 5) * SECOND) / 50)
    assert shares == [0] + 9 * [1]


def test_an_exporter_whose_counters_are_broken_silences_no_other_while_it_goes_on() -> None:
    assert np.min(after_each_minute(60, *MOST, again=True)) > 0.9


def test_an_exporter_of_many_names_silences_no_other_by_little() -> None:
    duplicates, flows = Duplicates(seed=1), flood(30, packets=100, sampling=100)
    for second in range(0, 600, 6):
        for domain in range(20):
            counted(duplicates, flood(1, sampling=2), Observer(FORGED.address, domain), START + second * SECOND)
        share = counted(duplicates, flows, ROUTERS[0], START + second * SECOND) / 300_000
        assert share > 0.99


def test_who_forges_an_exporter_claims_any_flow_and_goes_before_others_while_it_tells_of_somewhat_more() -> None:
    assert counted(Duplicates(seed=1), flood(1, 10**6, sampling=100), FORGED, START) == 10**8
    shares = after_each_minute(10, packets=10**5, sampling=100, again=True)
    assert max(shares[1:]) == 0
    assert min(after_each_minute(10, packets=10**3, sampling=100, again=True)) > 0.9, "of less it takes nothing"


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


def test_of_more_routers_than_are_told_apart_a_flood_counts_once() -> None:
    duplicates, total = Duplicates(seed=1), 0.0
    for second in range(600):
        for domain in range(20):
            card = Observer(ROUTERS[0].address, domain)
            total += counted(duplicates, flood(40, sampling=10), card, START + second * SECOND)
    assert total == pytest.approx(600 * 40 * 10, rel=0.02)


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
    assert held() == before < 50_000_000
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
