"""What an exporter sends, and addresses as all of this has them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Microseconds = int
Address = IPv4Address | IPv6Address


def address_of(raw: bytes) -> Address:
    """Of 16 bytes, in which an IPv4 address is mapped (RFC 4291, section 2.5.5.2)."""
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


@dataclass(frozen=True, slots=True)
class Datagram:
    """`exporter`: the address that it came from. `port`: that it came to. `at`: when, since the epoch."""

    exporter: Address
    port: int
    at: Microseconds
    payload: bytes
