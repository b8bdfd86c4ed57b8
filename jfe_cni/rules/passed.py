"""Protocols that are not covered pass in either mode, and are counted: one named counter a workload, way and protocol.

Named, so that they can be read without the rules that use them; in chains of their own, so that TCP meets one rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from jfe_cni.rules.text import Chain

Way = Literal["sent", "received"]
WAYS: tuple[Way, ...] = ("sent", "received")

PROTOCOLS: Mapping[str, tuple[str, ...]] = {
    "icmp": ("icmp", "ipv6-icmp"),
    "sctp": ("sctp",),
    "udp": ("udp", "udplite"),
}
"""Counter → the protocols that it counts, by their names in `nft` (nft(8), inet_proto)."""

OTHER = "other"
"""Whatever else is not TCP."""

NOT_TCP = "meta l4proto != tcp"


@dataclass(frozen=True)
class Passed:
    """What has passed since the rules were loaded: packets, and their bytes from the IP header on."""

    workload: str
    way: Way
    protocol: str
    packets: int
    bytes: int


def counters(workload: str | None = None) -> str:
    """The objects, as text of a table. `workload`: whose they are in a table of several."""
    return "\n".join(f"\tcounter {_name(way, each, workload)} {{}}" for way in WAYS for each in (*PROTOCOLS, OTHER))


def counting(way: Way, workload: str | None = None) -> Chain:
    """The chain to go to with a packet of this workload that is not TCP: it is counted, and passes."""
    chain = Chain(chain_name(way, workload))
    known = ", ".join(
        f'{number} : "{_name(way, name, workload)}"' for name, numbers in PROTOCOLS.items() for number in numbers
    )
    chain.add(f"counter name meta l4proto map {{ {known} }} accept", "passes in either mode")
    chain.add(f'counter name "{_name(way, OTHER, workload)}" accept', "not in the map, which broke off")
    return chain


def chain_name(way: Way, workload: str | None = None) -> str:
    return way if workload is None else f"{way}-{workload}"


def read(found: Iterable[tuple[str, int, int]], workload: str | None = None) -> list[Passed]:
    """From (name, packets, bytes) of a table's counters; those of other names are left out. `workload`: whose the
    table is; absent, it is of several."""
    passed = []
    for name, packets, size in found:
        way, _, rest = name.partition("-")
        protocol, _, named = rest.partition("-")
        whose = named or workload
        if way in WAYS and protocol in (*PROTOCOLS, OTHER) and whose and (workload is None or not named):
            passed.append(Passed(whose, "sent" if way == "sent" else "received", protocol, packets, size))
    return passed


def _name(way: Way, protocol: str, workload: str | None) -> str:
    return f"{way}-{protocol}" if workload is None else f"{way}-{protocol}-{workload}"
