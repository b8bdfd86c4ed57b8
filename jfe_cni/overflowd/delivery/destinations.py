"""To whom a notice may be sent at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from jfe_cni.overflowd.datagrams import Address

UDP_PORT = 65_535
"""As planned in 2016: no service is there to be hurt."""

Network = IPv4Network | IPv6Network


def _networks(*of: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, of))


# IANA, "IPv4 Special-Purpose Address Registry" and "IPv6 Special-Purpose Address Registry", both of 2025-10-09: what is
# not globally reachable, or nobody's own. What the releases of Python know of them differs; they are asked besides.
_TRANSLATED = _networks("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
"""Hides who it is."""

_GLOBAL_UNICAST = _networks("2000::/3")
"""All that is given to anybody (IANA, "Internet Protocol Version 6 Address Space"): neither 5f00::/16 (RFC 9602) nor
100::/64 (RFC 6666), 100:0:0:1::/64 (RFC 9780), fec0::/10 (RFC 3879), fc00::/7."""

_SPECIAL = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    # Of protocols; what is reachable of it, 192.0.0.9 and .10, is whoever's is next: no host's own.
    "192.0.0.0/24",
    "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "240.0.0.0/4",
    # Relays of 6to4, which nobody should run any more (RFC 7526).
    "192.88.99.0/24",
    # Of protocols; what is reachable of it is whoever's is next (2001:1::1 to ::3, 2001:3::/32, 2001:4:112::/48), or a
    # name for somebody and not where it is (2001:20::/28, 2001:30::/28).
    "2001::/23",
    "2001:db8::/32", "3fff::/20",
)  # fmt: skip


class Withheld(StrEnum):
    """Why a notice is not sent."""

    PRIVATE = "private"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    RESERVED = "reserved"
    TRANSLATED = "translated"
    OWN = "own"
    OPTED_OUT = "opted-out"


@dataclass(frozen=True)
class Policy:
    """`own`: networks that hear of it otherwise. `told`: networks that are sent to whatever they are, by somebody's
    decision: a laboratory, a site's own."""

    own: tuple[Network, ...] = ()
    told: tuple[Network, ...] = ()

    def withheld(self, address: Address) -> Withheld | None:
        """None: it may be sent."""
        if _in(address, self.told):
            return None
        if _in(address, self.own):
            return Withheld.OWN
        return _kind(address)


def _kind(address: Address) -> Withheld | None:
    if address == IPv4Address("255.255.255.255"):
        return Withheld.BROADCAST
    if address.is_multicast:
        return Withheld.MULTICAST
    if address.is_unspecified:
        return Withheld.UNSPECIFIED
    if address.is_loopback:
        return Withheld.LOOPBACK
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _kind(address.ipv4_mapped)
        if _in(address, _TRANSLATED):
            return Withheld.TRANSLATED
    if address.is_reserved:
        return Withheld.RESERVED
    if isinstance(address, IPv6Address) and not _in(address, _GLOBAL_UNICAST):
        return Withheld.PRIVATE
    return Withheld.PRIVATE if _in(address, _SPECIAL) or not address.is_global else None


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == each.version and address in each for each in networks)


def expected_amplification(size: int, odds: float, octets_per_packet: float) -> float:
    """Octets that are sent for each octet that was carried, in the long run: each packet makes `size` octets with
    `odds`, to each of two ends. Below 1 for every packet that can be, or who forges one makes more than it spends."""
    return 2 * size * odds / octets_per_packet


def is_smaller_than_the_flow(size: int, octets: int, sampling: int) -> bool:
    """Whether a notice of `size` octets to each of two ends is, with both, less than what the flow has brought."""
    return 2 * size < octets * max(sampling, 1)
