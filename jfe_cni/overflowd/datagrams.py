"""What an exporter sends."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Microseconds = int
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """`exporter`: the address that it came from. `port`: that it came to. `at`: when, since the epoch."""

    exporter: Address
    port: int
    at: Microseconds
    payload: bytes
