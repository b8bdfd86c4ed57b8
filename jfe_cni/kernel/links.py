"""The far ends of a namespace's links, those that lie in this process's own namespace, and closing them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from jfe_cni.kernel import rtnetlink, tables
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.netlink import NETLINK_ROUTE, asking
from jfe_cni.kernel.nft import Nft
from jfe_cni.kernel.rtnetlink import LOOPBACK, RT_SCOPE_UNIVERSE
from jfe_cni.rules import closed_link
from jfe_cni.rules.closed_link import FAMILY, PREFIX

VETH = "veth"
DEVICES = "the devices of a namespace can't be read"


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
    """Nothing passes at `device` of this process's own namespace, in either direction, until `open_links`."""
    await nft.load(closed_link.closed_link_ruleset(device))


async def open_links(namespace: Namespace) -> None:
    """Undo `close_link` for all of a namespace's links; one that is open stays open."""
    closed = await _closing_tables()
    # Hardly ever one, and looking for the links goes through all devices of the host.
    if closed:
        of_links = {closed_link.closed_link_table(link.outside) for link in await links(namespace)}
        await _delete(closed & of_links)


async def sweep(closed: Iterable[Namespace]) -> None:
    """Take away what closes a device of this process's own namespace, but for the links of the namespaces `closed`.

    Such a table outlives its device, and later kernels bind it again to the next one of that name."""
    found = await _closing_tables()
    if not found:
        return
    kept = {closed_link.closed_link_table(link.outside) for each in closed for link in await links(each)}
    await _delete(found - kept)


async def _closing_tables() -> frozenset[str]:
    """What closes a link of this process's own namespace, which the threads of a pool are in."""
    return frozenset(name for name in await asyncio.to_thread(tables.names, FAMILY) if name.startswith(PREFIX))


async def _delete(closing: Iterable[str]) -> None:
    for table in sorted(closing):
        await asyncio.to_thread(tables.delete, FAMILY, table)


async def addresses(namespace: Namespace) -> frozenset[IPv4Address | IPv6Address]:
    """The addresses of global scope of all devices but the loopback."""
    return await run_inside(namespace, global_addresses)


def global_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """As `addresses`, of the calling thread's namespace."""
    with asking(NETLINK_ROUTE, DEVICES) as netlink:
        return frozenset(
            address.value
            for address in rtnetlink.addresses(netlink)
            if address.scope == RT_SCOPE_UNIVERSE and address.link != LOOPBACK
        )


def _veths() -> tuple[rtnetlink.Link, ...]:
    with asking(NETLINK_ROUTE, DEVICES) as netlink:
        return tuple(link for link in rtnetlink.links(netlink) if link.kind == VETH and link.peer)
