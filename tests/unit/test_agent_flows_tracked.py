"""What is told of conntrack's entries: each packet once, whatever a dump misses; within bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.agent.flows.flow import EndReason, Flow
from jfe_cni.agent.flows.tracked import Tracked
from jfe_cni.agent.flows.unsent import Unsent, Unsents
from jfe_cni.kernel.conntrack import (
    CTA_IP_V4_DST,
    CTA_IP_V4_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_TIMESTAMP_START,
    CTA_TUPLE_IP,
    CTA_TUPLE_PROTO,
    Entry,
)
from jfe_cni.kernel.netlink import attribute

UDP = 17


def way(source: int, destination: int, source_port: int, destination_port: int) -> bytes:
    """A tuple as ctnetlink has it; addresses are the last byte of 10.0.0.0/24."""
    addresses = attribute(CTA_IP_V4_SRC, bytes((10, 0, 0, source)))
    addresses += attribute(CTA_IP_V4_DST, bytes((10, 0, 0, destination)))
    protocol = attribute(CTA_PROTO_NUM, bytes((UDP,)))
    protocol += attribute(CTA_PROTO_SRC_PORT, pack("!H", source_port))
    protocol += attribute(CTA_PROTO_DST_PORT, pack("!H", destination_port))
    return attribute(CTA_TUPLE_IP, addresses) + attribute(CTA_TUPLE_PROTO, protocol)


def entry(number: int, sent: int | None, returned: int = 0, started: int | None = None) -> Entry:
    original, reply = way(1, 2, number, 53), way(2, 1, 53, number)
    return Entry(
        key=original,
        sent=None if sent is None else (sent, 100 * sent),
        returned=None if sent is None else (returned, 100 * returned),
        _original=original,
        _reply=reply,
        _timestamp=None if started is None else attribute(CTA_TIMESTAMP_START, pack("!Q", started)),
    )


@dataclass
class Shown:
    """What a dump has shown."""

    entries: list[Entry]
    whole: bool

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


def dump(*entries: Entry, whole: bool = True) -> Shown:
    return Shown(list(entries), whole)


def tracked(unsent: Unsents | None = None, most: int = 1000) -> Tracked:
    made = Tracked(lambda _: False, Counter() if unsent is None else unsent, most)
    made.begin(dump(), 0)
    return made


# Of each entry what is counted in each turn; whether a dump misses it then; and whether it ends after the last turn.
TURNS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), min_size=1, max_size=8)


@given(st.lists(st.tuples(TURNS, st.booleans()), min_size=1, max_size=6))
def test_every_packet_is_told_once_though_a_dump_may_miss_an_entry_once(
    lives: list[tuple[list[tuple[int, int, bool]], bool]],
) -> None:
    source, told, now, missed = tracked(), list[Flow](), dict[int, tuple[int, int]](), set[int]()
    for turn in range(8):
        shown = []
        for number, (turns, _) in enumerate(lives):
            sent, returned, misses = turns[turn] if turn < len(turns) else (0, 0, False)
            before = now.get(number, (0, 0))
            now[number] = (before[0] + sent, before[1] + returned)
            if misses and number not in missed:
                missed.add(number)
            else:
                missed.discard(number)
                shown.append(entry(number, *now[number]))
        told += source.look(dump(*shown), turn + 1)
    told += source.ended([entry(number, *now[number]) for number, (_, ends) in enumerate(lives) if ends], 9)
    for number, (_, ends) in enumerate(lives):
        if ends or number not in missed:
            there = [flow for flow in told if flow.ends.source_port == number]
            back = [flow for flow in told if flow.ends.destination_port == number]
            assert (sum(f.packets for f in there), sum(f.packets for f in back)) == now[number]
            assert sum(f.octets for f in there + back) == 100 * sum(now[number])


def test_an_entry_that_is_twice_in_a_dump_is_told_once() -> None:
    flows = tracked().look(dump(entry(1, 5), entry(1, 5)), 1000)
    assert [flow.packets for flow in flows] == [5]


def test_an_entry_that_is_gone_without_a_word_is_counted_and_takes_no_room() -> None:
    unsent: Unsents = Counter()
    source = tracked(unsent)
    source.look(dump(entry(1, 5), entry(2, 5)), 1000)
    for turn in range(3):
        source.look(dump(entry(2, 5)), 2000 + turn)
    assert (len(source), unsent[Unsent.ENDED_UNSEEN]) == (1, 1)


def test_what_was_cut_off_is_not_taken_for_gone() -> None:
    unsent: Unsents = Counter()
    source = tracked(unsent)
    source.look(dump(entry(1, 5), entry(2, 5)), 1000)
    for turn in range(3):
        source.look(dump(entry(2, 5), whole=False), 2000 + turn)
    assert (len(source), unsent) == (2, {Unsent.CUT_OFF: 3, Unsent.ENDED_UNSEEN: 0})
    assert [flow.packets for flow in source.look(dump(entry(1, 9), entry(2, 5)), 9000)] == [4]


def test_entries_beyond_those_that_can_be_remembered_are_told_at_their_end_and_once() -> None:
    source = tracked(most=1)
    assert [flow.packets for flow in source.look(dump(entry(1, 5), entry(2, 7)), 1000)] == [5]
    assert [flow.packets for flow in source.look(dump(entry(1, 5), entry(2, 8)), 2000)] == []
    assert [flow.packets for flow in source.ended([entry(2, 9), entry(1, 6)], 3000)] == [9, 1]
    assert len(source) == 0


def test_what_is_too_much_for_one_look_is_told_at_the_next() -> None:
    source = tracked(most=4)
    shown = [entry(number, 5, 5) for number in range(4)]
    first = source.look(dump(*shown), 1000)
    second = source.look(dump(*shown), 2000)
    assert (len(first), len(second), source.look(dump(*shown), 3000)) == (4, 4, [])
    assert {flow.ends for flow in first}.isdisjoint({flow.ends for flow in second})


def test_what_nobody_counted_is_not_told() -> None:
    source = tracked()
    assert source.look(dump(entry(1, None)), 1000) == []
    assert list(source.ended([entry(1, None)], 2000)) == []


def test_a_flow_begins_with_the_look_before_or_when_the_kernel_says() -> None:
    source = tracked()
    source.look(dump(), 1000)
    unknown, known = source.look(dump(entry(1, 5), entry(2, 5, started=1_700_000_000)), 3000)
    assert [(flow.first, flow.last, flow.end) for flow in (unknown, known)] == [
        (1000, 3000, EndReason.ACTIVE),
        (1700, 3000, EndReason.ACTIVE),
    ]
