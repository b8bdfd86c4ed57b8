"""What a namespace is like before anything in it is touched: all that an enrolment must know first, in one visit."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from jfe_cni.kernel import sockets, tables
from jfe_cni.kernel.links import global_addresses
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.nft import WORKLOAD_WORDS
from jfe_cni.rules import namespace as rules


@dataclass(frozen=True)
class Survey:
    """`enrolled_as`: the workload that the namespace's table is tagged with, be it whole or a mere record of what was
    before. `addresses`: of global scope, of all devices but the loopback. `silent`: no TCP socket listens or is
    connected."""

    enrolled_as: str | None
    addresses: frozenset[IPv4Address | IPv6Address]
    silent: bool


async def survey(namespace: Namespace) -> Survey:
    """Raises KernelError, HostError."""
    return await run_inside(namespace, _survey)


def enrolled_as() -> str | None:
    """As `Survey`'s, of the calling thread's namespace."""
    comment = tables.comment(rules.FAMILY, rules.TABLE)
    found = None if comment is None else WORKLOAD_WORDS.match(comment)
    return None if found is None else found.group(1)


def _survey() -> Survey:
    return Survey(enrolled_as(), global_addresses(), sockets.in_use() == 0)
