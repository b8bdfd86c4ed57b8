"""One way of a conversation, and as much of it as is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Milliseconds = int

TCP_SYN, TCP_ACK = 0x02, 0x10
"""RFC 9293, section 3.1."""


class EndReason(IntEnum):
    """flowEndReason of IANA's registry (element 136)."""

    IDLE = 1
    ACTIVE = 2
    END = 3
    FORCED = 4


class Direction(IntEnum):
    """flowDirection of IANA's registry (element 61), as the workload sees it."""

    INGRESS = 0
    EGRESS = 1


class Origin(StrEnum):
    """Who told the agent of a flow."""

    UPGRADER = "upgrader"
    CONNTRACK = "conntrack"


class Ends(NamedTuple):
    """Of TCP and UDP with their ports. Of ICMP `destination_port` is type and code, a byte each, as NetFlow has it."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int

    def reversed(self) -> Ends:
        return Ends(self.destination, self.destination_port, self.source, self.source_port)


@dataclass(frozen=True, slots=True)
class Flow:
    """`packets` and `octets` (from the IP header on) are those since the flow was told of last. `first`, `last`: since
    the epoch. `direction` and `tcp_flags` (those that were there for certain) are told of covered connections alone."""

    ends: Ends
    protocol: int
    packets: int
    octets: int
    first: Milliseconds
    last: Milliseconds
    end: EndReason
    direction: Direction | None = None
    tcp_flags: int = 0
