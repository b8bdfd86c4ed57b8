"""Flows of enrolled workloads' connections, from the upgrader's events. Pure.

An event tells what a connection has carried so far; asked for its connections again the upgrader tells it anew, so that
a long one is told of in slices.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from jfe_cni.agent.flows.flow import TCP_ACK, TCP_SYN, Address, Direction, EndReason, Ends, Flow, Milliseconds
from jfe_cni.agent.flows.unsent import Unsent, Unsents
from jfe_cni.agent.reports import CarriedReport, ConnectionReport

MOST_CONNECTIONS = 65_536
"""Remembered at once, of some 1,200 bytes each with what names their legs."""

MOST_PENDING = 65_536
"""Flows that wait to be sent, of some 500 bytes each."""

MOST_LEGS = 131_072
"""Of connections that have ended; of the oldest beyond it conntrack may tell once more, by their last packets."""

KNOWN_MILLISECONDS = 130_000
"""conntrack keeps a connection for 120 s after its end (nf_conntrack_tcp_timeout_time_wait)."""

_TCP = 6
_WORKER_SHIFT = 48
"""upgrader/control/src/message.rs: a connection's number has its worker's above."""

_SILENT_ROUNDS = 3
"""One that was not named in so many rounds is gone, and its end was lost."""

_NOTHING = CarriedReport(0, 0, 0, 0)

_SEGMENTS = 1 << 32
"""struct tcp_info counts segments in 32 bits, and octets in 64."""

_TCP_HEADER, _IP_HEADER = 32, {4: 20, 6: 40}
"""With timestamps, as Linux has them where nobody switched them off (net.ipv4.tcp_timestamps)."""


@dataclass(slots=True)
class _Known:
    ends: Ends
    outbound: bool
    since: Milliseconds
    heard: Milliseconds
    round: int
    told: CarriedReport
    now: CarriedReport
    opening: bool
    dialled_from: str | None
    # As conntrack names them: the program's and the upgrader's own.
    legs: set[Ends]


class ConnectionFlows:
    """`unsent`: where what is not told is counted."""

    def __init__(
        self, unsent: Unsents, most_connections: int = MOST_CONNECTIONS, most_pending: int = MOST_PENDING
    ) -> None:
        self._unsent = unsent
        self._most_connections = most_connections
        self._most_pending = most_pending
        self._known: dict[int, _Known] = {}
        self._pending: list[Flow] = []
        # When each leg is forgotten; None while its connection lives.
        self._covered: dict[Ends, Milliseconds | None] = {}
        self._ended: deque[tuple[Milliseconds, Ends]] = deque()
        self._round = 0

    def __len__(self) -> int:
        return len(self._known)

    def take(self, report: ConnectionReport, at: Milliseconds) -> None:
        """One event."""
        known = self._known.get(report.number)
        if known is None:
            known = self._meet(report, at)
            if known is None:
                return
        if report.dialled_from is not None and report.dialled_from != known.dialled_from:
            known.dialled_from = report.dialled_from
            leg = Ends(*endpoint_of(report.dialled_from), *endpoint_of(report.destination))
            self._name_leg(known, leg)
            if known.outbound:
                # The port that the network sees, and the agent at the other end: the program's own is never on it.
                known.ends = leg
        known.round = self._round
        if report.carried is not None:
            known.now, known.heard = report.carried, at
        if report.phase == "closed":
            if report.carried is None and report.bytes_sent + report.bytes_received:
                self._unsent[Unsent.UNCOUNTED] += 1
            self._end(report.number, EndReason.END, at)

    def slices(self, at: Milliseconds) -> list[Flow]:
        """What is to be sent: of those that have ended, and of those that go on since the last time."""
        for number, known in list(self._known.items()):
            if self._round - known.round >= _SILENT_ROUNDS:
                self._unsent[Unsent.ENDED_UNSEEN] += 1
                self._end(number, EndReason.FORCED, at)
            else:
                self._tell(known, EndReason.ACTIVE)
        self._sweep(at)
        return self.ended()

    def ended(self) -> list[Flow]:
        """What is to be sent of those that have ended."""
        pending, self._pending = self._pending, []
        return pending

    def begin_round(self) -> None:
        """The upgrader is about to name all that are open."""
        self._round += 1

    def lost(self, count: int) -> None:
        """So many events."""
        self._unsent[Unsent.EVENTS_LOST] += count

    def forget(self, at: Milliseconds, worker: int | None = None) -> None:
        """The upgrader is gone, or one worker of it, and its connections with it."""
        for number in [number for number in self._known if worker is None or number >> _WORKER_SHIFT == worker]:
            self._unsent[Unsent.UPGRADER_GONE] += 1
            self._end(number, EndReason.FORCED, at)

    def covers(self, ends: Ends) -> bool:
        """Whether this is a leg of a connection that is, or a moment ago was, told of here."""
        return ends in self._covered

    def _meet(self, report: ConnectionReport, at: Milliseconds) -> _Known | None:
        if report.phase == "closed":
            self._unsent[Unsent.BEGAN_UNSEEN] += 1
            return None
        if len(self._known) >= self._most_connections:
            self._unsent[Unsent.TOO_MANY_CONNECTIONS] += 1
            return None
        source, destination = endpoint_of(report.source), endpoint_of(report.destination)
        opening = report.phase == "open"
        # One that was there before: what it had carried then a former agent may have told.
        told = _NOTHING if opening or report.carried is None else report.carried
        known = _Known(
            ends=Ends(*source, *destination),
            outbound=report.direction == "outbound",
            since=at,
            heard=at,
            round=self._round,
            told=told,
            now=told,
            opening=opening,
            dialled_from=None,
            legs=set(),
        )
        self._known[report.number] = known
        self._name_leg(known, known.ends)
        return known

    def _name_leg(self, known: _Known, ends: Ends) -> None:
        known.legs.add(ends)
        self._covered[ends] = None

    def _end(self, number: int, end: EndReason, at: Milliseconds) -> None:
        known = self._known.pop(number)
        self._tell(known, end)
        for ends in known.legs:
            self._covered[ends] = at + KNOWN_MILLISECONDS
            self._ended.append((at + KNOWN_MILLISECONDS, ends))
        while len(self._ended) > MOST_LEGS:
            self._forget_oldest()

    def _sweep(self, at: Milliseconds) -> None:
        while self._ended and self._ended[0][0] <= at:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        due, ends = self._ended.popleft()
        # Unless another connection has the same ends by now.
        if self._covered.get(ends) == due:
            del self._covered[ends]

    def _tell(self, known: _Known, end: EndReason) -> None:
        """What is new, each way."""
        now = known.now
        new = _since(known.told, now, _IP_HEADER[known.ends.source.version] + _TCP_HEADER)
        established = now.packets_sent > 0 and now.packets_received > 0
        flags = (TCP_SYN if known.opening else 0) | (TCP_ACK if established else 0)
        # From the peer's side, inbound, the connection's source is the peer.
        outward = known.ends if known.outbound else known.ends.reversed()
        for ends, direction, packets, octets in (
            (outward, Direction.EGRESS, new.packets_sent, new.octets_sent),
            (outward.reversed(), Direction.INGRESS, new.packets_received, new.octets_received),
        ):
            if packets > 0:
                self._put(Flow(ends, _TCP, packets, octets, known.since, known.heard, end, direction, flags))
        if now != known.told:
            known.told, known.since, known.opening = now, known.heard, False

    def _put(self, flow: Flow) -> None:
        if len(self._pending) >= self._most_pending:
            self._unsent[Unsent.TOO_MANY] += 1
        else:
            self._pending.append(flow)


def _since(told: CarriedReport, now: CarriedReport, header: int) -> CarriedReport:
    """What was carried since `told`. `header`: octets of each packet's, which the upgrader has counted with them."""
    sent = _one_way(told.packets_sent, told.octets_sent, now.packets_sent, now.octets_sent, header)
    received = _one_way(told.packets_received, told.octets_received, now.packets_received, now.octets_received, header)
    if sent is None or received is None:
        # Another socket: the upgrader has called the peer once more.
        return now
    return CarriedReport(sent[0], received[0], sent[1], received[1])


def _one_way(packets_told: int, octets_told: int, packets: int, octets: int, header: int) -> tuple[int, int] | None:
    """Packets and octets that are new; None, they are of another socket."""
    if packets >= packets_told:
        return None if octets < octets_told else (packets - packets_told, octets - octets_told)
    new = packets - packets_told + _SEGMENTS
    # The headers of those that are not counted any more; what the packets carried has only become more.
    carried = octets - octets_told + _SEGMENTS * header
    return None if new >= _SEGMENTS // 2 or carried < new * header else (new, carried)


def endpoint_of(text: str) -> tuple[Address, int]:
    """Of `ADDRESS:PORT` or `[ADDRESS%SCOPE]:PORT`."""
    host, _, port = text.rpartition(":")
    address = ip_address(host.removeprefix("[").removesuffix("]").partition("%")[0])
    return (address.ipv4_mapped or address if isinstance(address, IPv6Address) else address), int(port)
