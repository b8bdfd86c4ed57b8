"""Links, addresses, policy rules and routes as rtnetlink(7) has them: of their attributes those that we use."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import pack, unpack, unpack_from

from jfe_cni.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute, attributes

RTM_NEWLINK, RTM_GETLINK, RTM_GETADDR = 16, 18, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
"""linux/rtnetlink.h"""

IFINFOMSG, IFADDRMSG, RTMSG, FIB_RULE_HDR = 16, 8, 12, 12
"""Bytes of the structs of linux/rtnetlink.h, linux/if_addr.h and linux/fib_rules.h."""

IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_LINK_NETNSID, IFLA_INFO_KIND = 3, 5, 18, 29, 37, 1
RTEXT_FILTER_SKIP_STATS = 1 << 3
"""linux/if_link.h, linux/rtnetlink.h"""

IFF_UP = 1
"""linux/if.h"""

IFA_ADDRESS, IFA_LOCAL = 1, 2
"""linux/if_addr.h: of a point-to-point link the first is the far end."""

RTA_OIF, RTA_PRIORITY, RTA_TABLE = 4, 6, 15
RT_SCOPE_UNIVERSE, RT_SCOPE_HOST = 0, 254
RT_TABLE_UNSPEC = 0
"""linux/rtnetlink.h; a table's number above 255 is told by its attribute alone."""

FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL, FR_ACT_TO_TBL = 6, 10, 15, 16, 21, 1
"""linux/fib_rules.h"""

LOOPBACK = 1
"""The index of `lo` in every namespace (LOOPBACK_IFINDEX, net/flow.h)."""


@dataclass(frozen=True)
class Link:
    """`kind`: "veth" and the like; empty: a device of its own. `peer`: the index of the other end of a pair, or of the
    device below, 0 where there is none; `peer_elsewhere`: it counts in another namespace."""

    index: int
    name: str
    up: bool
    kind: str
    peer: int
    peer_elsewhere: bool


@dataclass(frozen=True)
class Address:
    """An address of a device of this namespace."""

    value: IPv4Address | IPv6Address
    link: int
    scope: int


@dataclass(frozen=True)
class Rule:
    """A policy rule that looks a mark up in a table."""

    preference: int
    table: int
    mark: int
    mask: int
    protocol: int


@dataclass(frozen=True)
class Route:
    """A default route. `link` 0: of no device. `scope`: of IPv4; the kernel says 0 for IPv6."""

    table: int
    kind: int
    link: int
    metric: int
    protocol: int
    scope: int = RT_SCOPE_UNIVERSE


def links(netlink: Netlink) -> list[Link]:
    body = bytes(IFINFOMSG) + attribute(IFLA_EXT_MASK, pack("=I", RTEXT_FILTER_SKIP_STATS))
    return [_link(each) for each in netlink.dump(RTM_GETLINK, body)]


def loopback(netlink: Netlink) -> Link:
    return _link(netlink.ask(RTM_GETLINK, _ifinfomsg(LOOPBACK)))


def set_link(netlink: Netlink, index: int, *, up: bool) -> None:
    netlink.change(RTM_NEWLINK, _ifinfomsg(index, IFF_UP if up else 0, IFF_UP))


def addresses(netlink: Netlink) -> list[Address]:
    return [_address(each) for each in netlink.dump(RTM_GETADDR, bytes(IFADDRMSG))]


def rules(netlink: Netlink, family: socket.AddressFamily) -> list[Rule]:
    """All of the family, be they rules of marks or not: what a rule does not say is 0."""
    return [_rule(each) for each in netlink.dump(RTM_GETRULE, pack("=B", family).ljust(FIB_RULE_HDR, b"\0"))]


def routes(netlink: Netlink, family: socket.AddressFamily, table: int) -> list[Route]:
    """The default routes of one table. OSError(ENOENT): there is no such table yet."""
    asked = pack("=B", family).ljust(RTMSG, b"\0") + attribute(RTA_TABLE, pack("=I", table))
    found = netlink.dump(RTM_GETROUTE, asked)
    return [route for each in found if (route := _route(each)) is not None and route.table == table]


def add_rule(netlink: Netlink, family: socket.AddressFamily, rule: Rule) -> None:
    netlink.change(RTM_NEWRULE, _rule_body(family, rule), NLM_F_CREATE | NLM_F_EXCL)


def delete_rule(netlink: Netlink, family: socket.AddressFamily, rule: Rule) -> None:
    netlink.change(RTM_DELRULE, _rule_body(family, rule))


def add_route(netlink: Netlink, family: socket.AddressFamily, route: Route) -> None:
    netlink.change(RTM_NEWROUTE, _route_body(family, route), NLM_F_CREATE | NLM_F_EXCL)


def delete_route(netlink: Netlink, family: socket.AddressFamily, route: Route) -> None:
    netlink.change(RTM_DELROUTE, _route_body(family, route))


def _link(message: bytes) -> Link:
    index, flags = unpack_from("=iI", message, 4)
    found = attributes(message[IFINFOMSG:])
    kind = attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")
    return Link(
        index,
        _text(found[IFLA_IFNAME]),
        bool(flags & IFF_UP),
        _text(kind),
        _u32(found, IFLA_LINK),
        IFLA_LINK_NETNSID in found,
    )


def _address(message: bytes) -> Address:
    family, _, _, scope, link = unpack_from("=BBBBI", message)
    found = attributes(message[IFADDRMSG:])
    value = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
    return Address(IPv4Address(value) if family == socket.AF_INET else IPv6Address(value), link, scope)


def _rule(message: bytes) -> Rule:
    found = attributes(message[FIB_RULE_HDR:])
    protocol = found.get(FRA_PROTOCOL, b"\0")[0]
    return Rule(
        _u32(found, FRA_PRIORITY), _u32(found, FRA_TABLE), _u32(found, FRA_FWMARK), _u32(found, FRA_FWMASK), protocol
    )


def _rule_body(family: socket.AddressFamily, rule: Rule) -> bytes:
    # struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
    return pack("=8BI", family, 0, 0, 0, _short(rule.table), 0, 0, FR_ACT_TO_TBL, 0) + b"".join(
        (
            attribute(FRA_PRIORITY, pack("=I", rule.preference)),
            attribute(FRA_TABLE, pack("=I", rule.table)),
            attribute(FRA_FWMARK, pack("=I", rule.mark)),
            attribute(FRA_FWMASK, pack("=I", rule.mask)),
            attribute(FRA_PROTOCOL, pack("=B", rule.protocol)),
        )
    )


def _route(message: bytes) -> Route | None:
    """None: no default route."""
    # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    _, destination, _, _, table, protocol, scope, kind, _ = unpack_from("=8BI", message)
    if destination != 0:
        return None
    found = attributes(message[RTMSG:])
    return Route(
        _u32(found, RTA_TABLE) if RTA_TABLE in found else table,
        kind,
        _u32(found, RTA_OIF),
        _u32(found, RTA_PRIORITY),
        protocol,
        scope,
    )


def _route_body(family: socket.AddressFamily, route: Route) -> bytes:
    return pack("=8BI", family, 0, 0, 0, _short(route.table), route.protocol, route.scope, route.kind, 0) + b"".join(
        (
            attribute(RTA_TABLE, pack("=I", route.table)),
            attribute(RTA_OIF, pack("=I", route.link)) if route.link else b"",
            attribute(RTA_PRIORITY, pack("=I", route.metric)),
        )
    )


def _ifinfomsg(index: int, flags: int = 0, change: int = 0) -> bytes:
    return pack("=BBHiII", 0, 0, 0, index, flags, change)


def _short(table: int) -> int:
    return table if table < 256 else RT_TABLE_UNSPEC


def _u32(found: dict[int, bytes], kind: int) -> int:
    return int(unpack("=I", found[kind])[0]) if kind in found else 0


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="surrogateescape")
