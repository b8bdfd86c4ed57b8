"""To whom a notice may be sent at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from jfe_cni.overflowd.datagrams import Address

UDP_PORT = 65_535
"""As planned in 2016: no service is there to be hurt."""

Network = IPv4Network | IPv6Network

# Not of `is_private`, which knows more than one release of Python: what is nobody's, or of this network alone, or a
# translation that hides who it is (IANA, "IPv6 Special-Purpose Address Registry").
_TRANSLATED = tuple(ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))


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
    return None if address.is_global else Withheld.PRIVATE


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == each.version and address in each for each in networks)


def expected_amplification(size: int, odds: float, octets_per_packet: float) -> float:
    """Octets that are sent for each octet that was carried, in the long run: each packet makes `size` octets with
    `odds`, to each of two ends. Below 1 for every packet that can be, or who forges one makes more than it spends."""
    return 2 * size * odds / octets_per_packet


def is_smaller_than_the_flow(size: int, octets: int, sampling: int) -> bool:
    """Whether a notice of `size` octets to each of two ends is, with both, less than what the flow has brought."""
    return 2 * size < octets * max(sampling, 1)
