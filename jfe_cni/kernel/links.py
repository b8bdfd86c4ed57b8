"""The far ends of a namespace's links, those that lie in this process's own namespace, and closing them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.netlink import open_route
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules import closed_link
from jfe_cni.rules.closed_link import FAMILY, PREFIX

VETH = "veth"


@dataclass(frozen=True)
class Link:
    """A veth pair: the device inside the namespace, and its other end in this process's own namespace."""

    inside: str
    inside_index: int
    outside: str
    outside_index: int


async def links(namespace: Namespace) -> tuple[Link, ...]:
    """The veth pairs between `namespace` and this process's own.

    An index says nothing of the namespace it counts in, so both ends must name each other. This process's own has none:
    a device whose peer has its own index elsewhere would be taken for a pair."""
    with Namespace.own() as own:
        if namespace.identity == own.identity:
            return ()
        inside = await run_inside(namespace, _veths)
        outside = {veth.index: veth for veth in await run_inside(own, _veths)}
    found = []
    for veth in inside:
        other = outside.get(veth.peer)
        if other is not None and other.peer == veth.index and other.peer_elsewhere and veth.peer_elsewhere:
            found.append(Link(veth.name, veth.index, other.name, other.index))
    return tuple(found)


async def close_link(nft: Nft, device: str) -> None:
    """Nothing passes at `device` of this process's own namespace, in either direction, until `open_link`."""
    await nft.load(closed_link.closed_link_ruleset(device))


async def open_link(nft: Nft, device: str) -> None:
    """Undo `close_link`; a link that is open stays open."""
    await nft.delete(FAMILY, closed_link.closed_link_table(device))


async def sweep(nft: Nft, closed: Iterable[Namespace]) -> None:
    """Take away what closes a device of this process's own namespace, but for the links of the namespaces `closed`.

    Such a table outlives its device, and later kernels bind it again to the next one of that name."""
    tables = {name for family, name in await nft.names() if (family, name[: len(PREFIX)]) == (FAMILY, PREFIX)}
    if not tables:
        return
    kept = {closed_link.closed_link_table(link.outside) for each in closed for link in await links(each)}
    for table in sorted(tables - kept):
        await nft.delete(FAMILY, table)


async def addresses(namespace: Namespace) -> frozenset[str]:
    """The addresses of global scope of all devices but the loopback."""

    def read() -> frozenset[str]:
        with open_route() as route:
            return frozenset(
                address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
                for address in route.get_addr()
                if address["scope"] == RT_SCOPE_UNIVERSE and address["index"] != LOOPBACK
            )

    return await run_inside(namespace, read)


RT_SCOPE_UNIVERSE = 0
"""linux/rtnetlink.h: valid everywhere, unlike link-local addresses and those of the loopback."""

LOOPBACK = 1
"""The index of `lo` in every namespace."""


@dataclass(frozen=True)
class _Veth:
    index: int
    name: str
    peer: int
    peer_elsewhere: bool


def _veths() -> tuple[_Veth, ...]:
    found = []
    with open_route() as route:
        for link in route.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            peer = link.get_attr("IFLA_LINK")
            if info is not None and info.get_attr("IFLA_INFO_KIND") == VETH and peer is not None:
                elsewhere = link.get_attr("IFLA_LINK_NETNSID") is not None
                found.append(_Veth(link["index"], link.get_attr("IFLA_IFNAME"), peer, elsewhere))
    return tuple(found)
