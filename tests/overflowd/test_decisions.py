"""Each step of a delivery: by which way next, when there is none, and that it is all together less than what it answers
to, whatever flows, addresses and answers there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.decisions import (
    FIRST_ALONE,
    LONGEST_ALONE,
    LONGEST_WAIT,
    Alone,
    Tried,
    Try,
    alone,
    answers_to,
    is_confirmed,
    is_unreachable,
    next_step,
    withheld,
)
from jfe_cni.overflowd.delivery.destinations import Policy, Withheld, expected_amplification
from jfe_cni.overflowd.delivery.outcomes import Cause, Outcome, Spared, State, Told, Way
from jfe_cni.overflowd.delivery.sizes import most
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.notices.sealing import largest_sealed
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED
from jfe_cni.overflowd.selection.odds import DEFAULT, LARGEST, of_notice
from tests.overflowd.test_notices import NOTICE

ALL = (Way.UDP, Way.HTTPS, Way.HTTP, Way.MAIL)
DIRECT = ALL[:3]
FREE: Mapping[Way, int] = dict.fromkeys(Way, 0)
PUBLIC = ip_address("8.8.8.8")


def flow_of(packets: int, octets: int, sampling: int = 0, odds: float = DEFAULT) -> Notice:
    flow = dataclasses.replace(NOTICE.flow, packets=packets, octets=octets, sampling=sampling)
    return dataclasses.replace(NOTICE, flow=flow, odds=odds)


def walk(notice: Notice, ways: Sequence[Way], cost: Mapping[Way, int], told: Sequence[Told]) -> list[Tried]:
    """The ways that are tried, where each hears what is `told`."""
    tried: list[Tried] = []
    for each in told:
        step = next_step(notice, ways, tried, cost)
        if isinstance(step, Outcome):
            break
        tried.append(Tried(step.way, each))
    return tried


@given(
    st.integers(1, 10**6), st.integers(20, 65_535), st.integers(0, 10_000), st.floats(1e-9, LARGEST),
    st.permutations(ALL), st.lists(st.sampled_from(Told), min_size=4, max_size=4),
    st.integers(300, LARGEST_SIGNED), st.ip_addresses(), st.booleans(),
)  # fmt: skip
def test_all_tries_of_a_notice_are_together_less_than_what_it_answers_to(
    packets: int, size: int, sampling: int, odds: float, ways: list[Way], told: list[Told], signed: int,
    address: Address, asks_key: bool,
) -> None:  # fmt: skip
    notice = flow_of(packets, packets * size, sampling, odds)
    cost = {way: most(way, address, signed, largest_sealed(signed), asks_key=asks_key) for way in Way}
    tried = walk(notice, ways, cost, told)
    assert len({each.way for each in tried}) == len(tried), "each way once"
    spent = sum(cost[each.way] for each in tried)
    brought = packets * size * max(sampling, 1)
    # Of a packet that is drawn with these odds, both ends are sent as much.
    assert 2 * spent < brought or 2 * spent * odds < size


@given(
    st.integers(1, 100_000), st.integers(20, 65_535), st.sampled_from([0, 1, 10, 1_000]),
    st.integers(300, LARGEST_SIGNED), st.ip_addresses(), st.booleans(),
)  # fmt: skip
@example(packets=110, size=40, sampling=1, signed=1_200, address=PUBLIC, asks_key=False)
def test_at_the_largest_odds_both_copies_are_together_less_than_was_carried(
    packets: int, size: int, sampling: int, signed: int, address: Address, asks_key: bool
) -> None:
    """In the long run, of flows that are all alike: by every way and in every try, to both ends."""
    notice = flow_of(packets, packets * size, sampling, LARGEST)
    # The copy to the destination is the larger: its end has the longer name.
    sent = 0
    for each in (signed, signed + len("destination") - len("source")):
        cost = {way: most(way, address, each, largest_sealed(each), asks_key=asks_key) for way in Way}
        sent += sum(cost[done.way] for done in walk(notice, DIRECT, cost, [Told.NO_ANSWER] * 3))
    carried = packets * max(sampling, 1)
    chance = float(of_notice(np.array([float(carried)]), LARGEST)[0])
    assert chance * sent < carried * size


def test_a_flow_of_small_packets_at_the_largest_odds_must_have_brought_both_copies() -> None:
    """110 packets of 40 octets make a notice in two of three times."""
    assert not answers_to(flow_of(110, 4_400, odds=LARGEST), 4_399)


@given(st.integers(300, LARGEST_SIGNED), st.ip_addresses(), st.integers(20, 65_535))
def test_at_the_usual_odds_every_way_is_open_and_is_still_less_than_was_carried(
    signed: int, address: Address, size: int
) -> None:
    """Who forges packets of every kind, each a flow of its own, makes less than it spends."""
    cost = {way: most(way, address, signed, largest_sealed(signed), asks_key=True) for way in Way}
    tried = walk(flow_of(1, size), ALL, cost, [Told.NO_ANSWER] * 4)
    assert [each.way for each in tried] == list(ALL)
    assert expected_amplification(sum(cost.values()), DEFAULT, size) < 1


def test_where_the_odds_are_high_a_flow_must_have_brought_more_than_is_sent() -> None:
    small, large = flow_of(1, 60, odds=LARGEST), flow_of(500, 30_000, odds=LARGEST)
    cost = {Way.UDP: 3_000, Way.HTTPS: 13_000, Way.HTTP: 9_000, Way.MAIL: 0}
    assert next_step(small, DIRECT, (), cost) == Outcome(State.WITHHELD, Spared.LARGER_THAN_ITS_FLOW)
    assert next_step(large, DIRECT, (), cost) == Try(Way.UDP)
    tried = walk(large, DIRECT, cost, [Told.NO_ANSWER] * 3)
    assert [each.way for each in tried] == [Way.UDP, Way.HTTP], "what HTTPS would cost is more than is left"
    assert not answers_to(large, 15_000)
    assert answers_to(large, 14_999)
    assert not answers_to(flow_of(0, 0), 1), "of a flow that brought nothing"


@pytest.mark.parametrize(
    ("told", "then"),
    [
        ([], Try(Way.UDP)),
        ([Told.TAKEN], Outcome(State.SENT, None, Way.UDP)),
        ([Told.OPTED_OUT], Outcome(State.SENT, Told.OPTED_OUT, Way.UDP)),
        ([Told.NO_ANSWER], Try(Way.HTTPS)),
        ([Told.PORT_UNREACHABLE], Try(Way.HTTPS)),
        ([Told.TOO_LARGE], Try(Way.HTTPS)),
        # By UDP anybody can say so.
        ([Told.HOST_UNREACHABLE], Try(Way.HTTPS)),
        ([Told.PROHIBITED], Try(Way.HTTPS)),
        ([Told.HOST_UNREACHABLE, Told.HOST_UNREACHABLE], Try(Way.MAIL)),
        ([Told.NO_ANSWER, Told.PROHIBITED], Try(Way.MAIL)),
        ([Told.NO_ROUTE], Try(Way.MAIL)),
        ([Told.NO_ANSWER, Told.REFUSED], Try(Way.HTTP)),
        ([Told.NO_ANSWER, Told.NOT_NOW], Outcome(State.FAILED, Told.NOT_NOW, Way.HTTPS)),
        ([Told.NO_ANSWER, Told.REFUSED, Told.TAKEN], Outcome(State.SENT, None, Way.HTTP)),
        ([Told.NO_ANSWER, Told.REFUSED, Told.REFUSED], Try(Way.MAIL)),
        ([Told.NO_ANSWER] * 3 + [Told.NO_CONTACT], Outcome(State.FAILED, Told.NO_CONTACT, Way.MAIL)),
    ],
)
def test_what_is_heard_says_what_comes_next(told: list[Told], then: Try | Outcome) -> None:
    tried = [Tried(way, each) for way, each in zip(ALL, told, strict=False)]
    assert next_step(NOTICE, ALL, tried, FREE) == then


def test_without_mail_an_address_that_is_not_there_is_the_end() -> None:
    tried = [Tried(Way.UDP, Told.PROHIBITED), Tried(Way.HTTPS, Told.HOST_UNREACHABLE)]
    assert next_step(NOTICE, DIRECT, tried, FREE) == Outcome(State.FAILED, Told.HOST_UNREACHABLE, Way.HTTPS)


def test_an_address_that_was_not_there_of_late_is_told_by_mail_alone() -> None:
    assert next_step(NOTICE, ALL, (), FREE, Cause.UNREACHABLE) == Try(Way.MAIL)
    assert withheld(NOTICE, PUBLIC, 0, Policy(), Cause.UNREACHABLE, ALL) is None
    assert withheld(NOTICE, PUBLIC, 0, Policy(), Cause.UNREACHABLE, DIRECT) == Outcome(
        State.WITHHELD, Spared.UNREACHABLE
    )


def test_who_asked_is_left_alone_whatever_is_decided() -> None:
    policy = Policy(told=(ip_network("8.8.8.0/24"),))
    assert withheld(NOTICE, PUBLIC, 0, policy, Cause.ASKED, ALL) == Outcome(State.WITHHELD, Withheld.OPTED_OUT)


def test_what_has_waited_too_long_and_what_is_nobodys_is_not_sent() -> None:
    assert withheld(NOTICE, PUBLIC, LONGEST_WAIT, Policy(), None, ALL) is None
    late = withheld(NOTICE, PUBLIC, LONGEST_WAIT + 1, Policy(), None, ALL)
    assert late == Outcome(State.WITHHELD, Spared.TOO_OLD)
    private = withheld(NOTICE, ip_address("10.0.0.1"), 0, Policy(), None, ALL)
    assert private == Outcome(State.WITHHELD, Withheld.PRIVATE)


@pytest.mark.parametrize(
    ("told", "gone"),
    [
        ([], False),
        ([Told.PORT_UNREACHABLE] * 3, True),
        ([Told.PROHIBITED], True),
        ([Told.PORT_UNREACHABLE, Told.HOST_UNREACHABLE], True),
        ([Told.PROHIBITED, Told.NO_ROUTE], True),
        ([Told.NO_ROUTE], False),
        ([Told.NO_ANSWER], False),
        ([Told.PORT_UNREACHABLE, Told.REFUSED], False),
    ],
)
def test_only_what_the_network_says_by_every_way_is_remembered(told: list[Told], gone: bool) -> None:
    assert is_unreachable([Tried(way, each) for way, each in zip(DIRECT, told, strict=False)]) is gone


def test_only_who_has_seen_a_connection_confirms_that_nobody_is_there() -> None:
    by_udp = Tried(Way.UDP, Told.HOST_UNREACHABLE)
    assert not is_confirmed([by_udp, Tried(Way.MAIL, Told.TAKEN)])
    assert is_confirmed([by_udp, Tried(Way.HTTP, Told.PORT_UNREACHABLE)])


MINUTE = 60 * 1_000_000


def silences(*, confirmed: bool, wait: int = 0) -> list[int]:
    """For how many minutes each time in succession, where it is tried again `wait` after each."""
    at, former, found = 0, None, []
    for _ in range(7):
        former = alone(at, former, confirmed=confirmed)
        found.append((former.until - former.since) // MINUTE)
        at = max(former.until, at) + wait
    return found


def test_who_can_not_be_reached_is_left_alone_for_longer_each_time_and_for_a_day_at_most() -> None:
    assert silences(confirmed=True) == [5, 20, 80, 320, 1_280, 1_440, 1_440]


def test_what_udp_alone_has_heard_must_be_heard_of_another_notice_minutes_later() -> None:
    assert silences(confirmed=False) == [0] * 7, "by one spray, whatever it is about"
    assert silences(confirmed=False, wait=FIRST_ALONE) == [0, 5, 20, 80, 320, 1_280, 1_440]
    suspected = alone(0, None, confirmed=False)
    assert alone(1, suspected, confirmed=True) == Alone(1, 1 + FIRST_ALONE)


def test_copies_that_are_under_way_together_count_once_and_what_is_a_day_old_counts_no_more() -> None:
    first = alone(0, None, confirmed=True)
    assert alone(1, first, confirmed=True) == first
    later = first.until + LONGEST_ALONE
    assert alone(later, first, confirmed=True) == Alone(later, later + FIRST_ALONE)
