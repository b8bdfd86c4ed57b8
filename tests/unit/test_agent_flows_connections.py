"""What is told of covered connections: each packet once, whatever order the upgrader's events come in."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.agent.flows import connections
from jfe_cni.agent.flows.connections import KNOWN_MILLISECONDS, ConnectionFlows
from jfe_cni.agent.flows.flow import TCP_ACK, TCP_SYN, Direction, EndReason, Ends, Flow
from jfe_cni.agent.flows.unsent import Unsent, Unsents
from jfe_cni.agent.reports import CarriedReport, ConnectionReport

CLIENT, PROGRAM_PORT, WIRE_PORT, LAST_LEG_PORT = "10.1.0.5", 40_000, 41_000, 33_001
SERVER, PORT = "10.2.0.9", 80


def ends(client_port: int = WIRE_PORT) -> Ends:
    return Ends(ip_address(CLIENT), client_port, ip_address(SERVER), PORT)


def event(
    phase: str,
    sent: int | None = None,
    received: int = 0,
    *,
    number: int = 1,
    direction: str = "outbound",
    program_port: int = PROGRAM_PORT,
    relayed: int = 0,
) -> ConnectionReport:
    """`sent`, `received`: packets of 100 octets; None where nothing is connected yet."""
    inbound = direction == "inbound"
    own = f"{CLIENT}:{LAST_LEG_PORT if inbound else WIRE_PORT}"
    return ConnectionReport(
        number=number,
        phase=phase,
        workload="web",
        direction=direction,
        source=f"{CLIENT}:{WIRE_PORT if inbound else program_port}",
        destination=f"{SERVER}:{PORT}",
        decision=None,
        reason=None,
        peer=None,
        tls_version=None,
        cipher=None,
        key_exchange=None,
        bytes_sent=relayed,
        bytes_received=0,
        handshake_microseconds=None,
        dialled_from=None if sent is None else own,
        carried=None if sent is None else CarriedReport(sent, received, 100 * sent, 100 * received),
    )


@pytest.fixture
def unsent() -> Unsents:
    return Counter()


@pytest.fixture
def flows(unsent: Unsents) -> ConnectionFlows:
    return ConnectionFlows(unsent)


def test_a_connection_is_told_each_way_when_it_ends_with_the_port_that_the_network_sees(flows: ConnectionFlows) -> None:
    flows.take(event("open"), 1000)
    flows.take(event("decided", 3, 2), 1500)
    flows.take(event("closed", 10, 7), 2000)
    flags = TCP_SYN | TCP_ACK
    assert flows.ended() == [
        Flow(ends(), 6, 10, 1000, 1000, 2000, EndReason.END, Direction.EGRESS, flags),
        Flow(ends().reversed(), 6, 7, 700, 1000, 2000, EndReason.END, Direction.INGRESS, flags),
    ]
    assert (flows.ended(), len(flows)) == ([], 0)


def test_of_an_inbound_connection_what_the_workload_sends_goes_to_the_client(flows: ConnectionFlows) -> None:
    flows.take(event("open", 1, 1, direction="inbound"), 1000)
    flows.take(event("closed", 10, 7, direction="inbound"), 2000)
    sent, received = flows.ended()
    assert (sent.ends, sent.packets, sent.direction) == (ends().reversed(), 10, Direction.EGRESS)
    assert (received.ends, received.packets, received.direction) == (ends(), 7, Direction.INGRESS)


def test_a_long_connection_is_told_in_slices_each_from_the_end_of_the_one_before(flows: ConnectionFlows) -> None:
    flows.take(event("open"), 1000)
    flows.take(event("decided", 3, 2), 2000)
    first, _ = flows.slices(2100)
    flows.take(event("decided", 5, 2), 3000)
    (second,) = flows.slices(3100)
    assert flows.slices(4100) == []
    assert (first.packets, first.first, first.last, first.tcp_flags) == (3, 1000, 2000, TCP_SYN | TCP_ACK)
    assert (second.packets, second.first, second.last, second.tcp_flags) == (2, 2000, 3000, TCP_ACK)
    assert {first.end, second.end} == {EndReason.ACTIVE}


def test_a_peer_that_does_not_answer_is_told_of_by_its_syns_alone(flows: ConnectionFlows) -> None:
    flows.take(event("open"), 1000)
    flows.take(event("closed", 4, 0), 9000)
    (flow,) = flows.ended()
    assert (flow.packets, flow.tcp_flags) == (4, TCP_SYN)


def test_of_what_an_agent_before_this_one_has_seen_begin_only_what_comes_now_is_told(
    flows: ConnectionFlows, unsent: Unsents
) -> None:
    flows.take(event("decided", 100, 100), 1000)
    flows.take(event("closed", 103, 100), 2000)
    assert [flow.packets for flow in flows.ended()] == [3]
    flows.take(event("closed", 50, 50, number=2), 2000)
    assert flows.ended() == []
    assert unsent == {Unsent.BEGAN_UNSEEN: 1}


def test_a_peer_that_is_called_once_more_is_counted_from_nothing(flows: ConnectionFlows) -> None:
    flows.take(event("open", 9, 9), 1000)
    flows.slices(1100)
    flows.take(event("closed", 5, 3), 2000)
    assert [flow.packets for flow in flows.ended()] == [5, 3]


def counted(packets: tuple[int, int]) -> CarriedReport:
    """As the kernel and the upgrader count so many packets, of 1,000 octets and a header of 52 each."""
    segments = [each % 2**32 for each in packets]
    sent, received = (1_000 * each + 52 * seen for each, seen in zip(packets, segments, strict=True))
    return CarriedReport(segments[0], segments[1], sent, received)


@pytest.mark.parametrize("before", [(2**32 - 10, 7), (7, 2**32 - 10), (2**32 - 10, 2**32 - 3)])
def test_more_segments_than_the_kernel_can_count_are_each_told_once(
    flows: ConnectionFlows, before: tuple[int, int]
) -> None:
    after = (before[0] + 30, before[1] + 50)
    flows.take(event("open"), 1000)
    flows.take(replace(event("decided", 0), carried=counted(before)), 1000)
    assert [(flow.packets, flow.octets) for flow in flows.slices(1100)] == [(each, 1_052 * each) for each in before]
    flows.take(replace(event("closed", 0), carried=counted(after)), 2000)
    assert [(flow.packets, flow.octets) for flow in flows.ended()] == [(30, 31_560), (50, 52_600)]


def test_a_peer_that_is_called_once_more_after_very_much_is_counted_from_nothing(flows: ConnectionFlows) -> None:
    flows.take(event("open"), 1000)
    flows.take(replace(event("decided", 0), carried=counted((2**32 - 10, 2**32 - 10))), 1000)
    flows.slices(1100)
    flows.take(replace(event("closed", 0), carried=counted((5, 3))), 2000)
    assert [flow.packets for flow in flows.ended()] == [5, 3]


STEP = st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans())


@given(st.lists(st.lists(STEP, min_size=1, max_size=6), min_size=1, max_size=5), st.booleans())
def test_of_any_connections_in_any_slices_every_packet_is_told_once(
    lives: list[list[tuple[int, int, bool]]], gone: bool
) -> None:
    """Each life is of steps: packets sent and received, and whether slices are told after it."""
    flows, told, expected = ConnectionFlows(Counter()), list[Flow](), Counter[Direction]()
    carried = [(0, 0)] * len(lives)
    for number in range(len(lives)):
        flows.take(event("open", number=number), 0)
    for turn in range(max(map(len, lives))):
        for number, life in enumerate(lives):
            if turn < len(life):
                sent, received, sliced = life[turn]
                carried[number] = (carried[number][0] + sent, carried[number][1] + received)
                expected.update({Direction.EGRESS: sent, Direction.INGRESS: received})
                phase = "closed" if turn == len(life) - 1 and not gone else "decided"
                flows.take(event(phase, *carried[number], number=number), turn)
                told += flows.slices(turn) if sliced else []
    if gone:
        flows.forget(100)
    told += flows.ended()
    for direction in Direction:
        of = [flow for flow in told if flow.direction is direction]
        assert sum(flow.packets for flow in of) == expected[direction]
        assert sum(flow.octets for flow in of) == 100 * expected[direction]
    assert len(flows) == 0


def test_a_worker_that_is_gone_takes_its_own_connections_along_and_no_others(
    flows: ConnectionFlows, unsent: Unsents
) -> None:
    for worker in (0, 1):
        flows.take(event("open", number=worker << 48 | 7), 1000)
        flows.take(event("decided", 3, 2, number=worker << 48 | 7), 1500)
    flows.forget(2000, worker=1)
    assert {flow.end for flow in flows.ended()} == {EndReason.FORCED}
    assert (len(flows), unsent) == (1, {Unsent.UPGRADER_GONE: 1})


def test_one_whose_end_was_lost_is_forgotten_when_it_is_named_no_more(flows: ConnectionFlows, unsent: Unsents) -> None:
    for number in (1, 2):
        flows.take(event("open", number=number), 1000)
    for turn in range(6):
        flows.begin_round()
        flows.take(event("open", number=2), 2000 + turn)
        flows.slices(2000 + turn)
    assert (len(flows), unsent) == (1, {Unsent.ENDED_UNSEEN: 1})


def test_connections_beyond_those_that_can_be_remembered_are_counted_and_take_no_room(unsent: Unsents) -> None:
    flows = ConnectionFlows(unsent, most_connections=10)
    for number in range(15):
        flows.take(event("open", number=number), 1000)
    assert (len(flows), unsent) == (10, {Unsent.TOO_MANY_CONNECTIONS: 5})


def test_flows_that_nobody_takes_away_are_counted_and_take_no_room(unsent: Unsents) -> None:
    flows = ConnectionFlows(unsent, most_pending=4)
    for number in range(5):
        flows.take(event("open", number=number), 1000)
        flows.take(event("closed", 1, 1, number=number), 1000)
    assert (len(flows.ended()), unsent) == (4, {Unsent.TOO_MANY: 6})


def test_an_upgrader_that_does_not_count_is_told_of_by_a_counter_and_never_by_a_guess(
    flows: ConnectionFlows, unsent: Unsents
) -> None:
    flows.take(event("open"), 1000)
    flows.take(event("closed", relayed=5000), 2000)
    assert (flows.ended(), unsent) == ([], {Unsent.UNCOUNTED: 1})


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_both_legs_are_covered_from_their_beginning_until_conntrack_has_forgotten_them(
    flows: ConnectionFlows, direction: str
) -> None:
    legs = [ends(PROGRAM_PORT), ends()] if direction == "outbound" else [ends(), ends(LAST_LEG_PORT)]
    flows.take(event("open", direction=direction), 1000)
    assert flows.covers(legs[0])
    assert not flows.covers(legs[1])
    flows.take(event("decided", 1, 1, direction=direction), 1000)
    assert all(map(flows.covers, legs))
    flows.take(event("closed", 1, 1, direction=direction), 2000)
    flows.slices(2000 + KNOWN_MILLISECONDS - 1)
    assert all(map(flows.covers, legs))
    flows.slices(2000 + KNOWN_MILLISECONDS)
    assert not any(map(flows.covers, legs))


def test_a_port_that_is_used_again_is_covered_by_its_new_connection(flows: ConnectionFlows) -> None:
    flows.take(event("open", 1, 1, number=1), 1000)
    flows.take(event("closed", 1, 1, number=1), 1000)
    flows.take(event("open", 1, 1, number=2), 2000)
    flows.slices(1000 + KNOWN_MILLISECONDS)
    assert flows.covers(ends())


def test_legs_of_what_has_ended_take_bounded_room(flows: ConnectionFlows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_LEGS", 6)
    for number in range(10):
        flows.take(event("open", 1, 1, number=number, program_port=50_000 + number), 1000)
        flows.take(event("closed", 1, 1, number=number, program_port=50_000 + number), 1000)
    remembered = [number for number in range(10) if flows.covers(ends(50_000 + number))]
    assert remembered
    assert remembered[-1] == 9
    assert len(remembered) < 7


@pytest.mark.parametrize(
    ("text", "address"),
    [("[fe80::1%3]:80", "fe80::1"), ("[2001:db8::1]:80", "2001:db8::1"), ("[::ffff:10.1.0.5]:80", "10.1.0.5")],
)
def test_addresses_are_read_with_scope_and_as_what_they_are_on_the_wire(text: str, address: str) -> None:
    assert connections.endpoint_of(text) == (ip_address(address), 80)
