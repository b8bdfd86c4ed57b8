"""IPFIX messages over UDP (RFC 7011). Pure: flows in, datagrams out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct, pack

from jfe_cni.agent.flows.flow import Flow

LARGEST_MESSAGE = 1400
"""Bytes: what passes a path MTU of 1,500 with IPv6's and a tunnel's headers (RFC 7011, section 10.3.3)."""

TEMPLATE_SECONDS = 60.0
"""RFC 7011, section 8.4, has ten minutes for what may be set otherwise: a collector that starts anew should not
wait for so long."""

_VERSION = 10
_TEMPLATE_SET = 2
_FIRST_TEMPLATE = 256
"""RFC 7011, sections 3.1, 3.3.2 and 3.4.1."""

_MESSAGE_HEADER = Struct("!HHIII")
_SET_HEADER = Struct("!HH")

_PROTOCOL, _TCP_FLAGS, _SOURCE_PORT, _DESTINATION_PORT = (4, "B"), (6, "H"), (7, "H"), (11, "H")
_OCTETS, _PACKETS, _FIRST, _LAST, _END_REASON, _DIRECTION, _SAMPLING = (
    (1, "Q"),
    (2, "Q"),
    (152, "Q"),
    (153, "Q"),
    (136, "B"),
    (61, "B"),
    (34, "I"),
)
_IPV4 = ((8, "4s"), (12, "4s"))
_IPV6 = ((27, "16s"), (28, "16s"))
_ICMP_IPV4, _ICMP_IPV6 = (32, "H"), (139, "H")
"""Numbers of IANA's registry of IPFIX information elements, and how each is packed."""

_EACH = 1
"""samplingInterval: each packet is counted. In each record, so that no collector is without it for the want of one
message; four octets of some sixty."""

_ICMP_PROTOCOLS = (1, 58)


class _Kind(IntEnum):
    """What a flow's record has beside addresses, protocol, counts and times."""

    COVERED = 0
    PORTS = 1
    ICMP = 2


class _Template:
    def __init__(self, number: int, kind: _Kind, *, ipv6: bool) -> None:
        icmp = _ICMP_IPV6 if ipv6 else _ICMP_IPV4
        ends = [icmp] if kind is _Kind.ICMP else [_SOURCE_PORT, _DESTINATION_PORT]
        more = [_TCP_FLAGS, _DIRECTION] if kind is _Kind.COVERED else []
        fields = [
            *(_IPV6 if ipv6 else _IPV4),
            *(_PROTOCOL, _PACKETS, _OCTETS, _FIRST, _LAST, _END_REASON, _SAMPLING),
            *ends,
            *more,
        ]
        self.number = number
        self._kind = kind
        self._struct = Struct("!" + "".join(form for _, form in fields))
        self.length = self._struct.size
        self.record = pack("!HH", number, len(fields)) + b"".join(
            pack("!HH", element, Struct("!" + form).size) for element, form in fields
        )

    def pack(self, flow: Flow) -> bytes:
        ends = flow.ends
        values: tuple[int, ...]
        match self._kind:
            case _Kind.COVERED:
                values = (ends.source_port, ends.destination_port, flow.tcp_flags, flow.direction or 0)
            case _Kind.PORTS:
                values = (ends.source_port, ends.destination_port)
            case _Kind.ICMP:
                values = (ends.destination_port,)
        return self._struct.pack(
            ends.source.packed,
            ends.destination.packed,
            flow.protocol,
            flow.packets,
            flow.octets,
            flow.first,
            flow.last,
            flow.end,
            _EACH,
            *values,
        )


_TEMPLATES = {
    (kind, ipv6): _Template(_FIRST_TEMPLATE + 2 * kind + ipv6, kind, ipv6=ipv6)
    for kind in _Kind
    for ipv6 in (False, True)
}


@dataclass(frozen=True)
class Message:
    """One datagram, and how many flows are in it."""

    payload: bytes
    flows: int


class Encoder:
    """One transport session of one observation domain: what it numbers is lost if it is not sent, and the collector
    sees that. `sequence`: of data records that went before."""

    def __init__(self, domain: int, sequence: int = 0) -> None:
        self._domain = domain
        self._sequence = sequence
        self._templates_due = float("-inf")

    def begin_anew(self) -> None:
        """Templates come before the next records: the collector is another, or may have begun anew."""
        self._templates_due = float("-inf")

    def messages(self, flows: Iterable[Flow], now: float) -> Iterator[Message]:
        """Those of `flows`, and before them of the templates where it is time. `now`: seconds since the epoch.

        An address that is IPv4's at one end alone is no flow."""
        if now >= self._templates_due:
            self._templates_due = now + TEMPLATE_SECONDS
            records = b"".join(template.record for template in _TEMPLATES.values())
            yield self._message([_set(_TEMPLATE_SET, records)], 0, now)
        for template, of_template in _by_template(flows):
            most = (LARGEST_MESSAGE - _MESSAGE_HEADER.size - _SET_HEADER.size) // template.length
            for at in range(0, len(of_template), most):
                part = of_template[at : at + most]
                records = b"".join(map(template.pack, part))
                yield self._message([_set(template.number, records)], len(part), now)

    def _message(self, sets: Sequence[bytes], records: int, now: float) -> Message:
        body = b"".join(sets)
        header = _MESSAGE_HEADER.pack(
            _VERSION, _MESSAGE_HEADER.size + len(body), int(now) & 0xFFFFFFFF, self._sequence, self._domain
        )
        # RFC 7011, section 3.1: data records alone are counted, those before this message.
        self._sequence = (self._sequence + records) & 0xFFFFFFFF
        return Message(header + body, records)


def _set(number: int, records: bytes) -> bytes:
    return _SET_HEADER.pack(number, _SET_HEADER.size + len(records)) + records


def _by_template(flows: Iterable[Flow]) -> Iterator[tuple[_Template, list[Flow]]]:
    found: dict[tuple[_Kind, bool], list[Flow]] = {}
    for flow in flows:
        found.setdefault((_kind(flow), isinstance(flow.ends.source, IPv6Address)), []).append(flow)
    for key, of_template in found.items():
        yield _TEMPLATES[key], of_template


def _kind(flow: Flow) -> _Kind:
    if flow.direction is not None:
        return _Kind.COVERED
    return _Kind.ICMP if flow.protocol in _ICMP_PROTOCOLS else _Kind.PORTS
