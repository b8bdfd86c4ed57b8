"""Policy routing of the mark: a rule, and a table in which every address is local.

A socket that is bound to a device (SO_BINDTODEVICE) finds only routes over that device; `local default dev eth0` is
one, and still leads to the loopback. Over a device that has none `prohibit` is met, and no table after this one.
Runs on a thread that has entered the namespace; idempotent.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel import rtnetlink
from jfe_cni.kernel.netlink import NETLINK_ROUTE, Netlink
from jfe_cni.kernel.rtnetlink import LOOPBACK, RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, Route, Rule
from jfe_cni.rules.model import Mark

PREFERENCE = 5
"""Ahead of the rules of Cilium (9, 10, 20, 100), of VRFs (1000) and of `main`; behind `local` (0)."""

LOCAL_METRIC = 100
"""Plus the device's index: one route a device."""

PROHIBIT_METRIC = 0x7FFFFFFF
"""Behind every device's."""

PROTOCOL = 0x6A
"""rtm_protocol of our routes, "j"; rtnetlink(7) leaves numbers above RTPROT_STATIC (4) to programs."""

RTN_LOCAL, RTN_PROHIBIT = 2, 8  # linux/rtnetlink.h


def families() -> list[socket.AddressFamily]:
    """IPv4, and IPv6 where the kernel has it."""
    return [socket.AF_INET, *([socket.AF_INET6] if _ipv6_there() else [])]


def ensure(mark: Mark) -> bool:
    """Rule and routes, those that are missing. The rule comes last, for it takes effect with the first route. True: the
    kernel has taken all of them now, and none was there before.

    Nobody looks first what is there: to add it takes one answer, to read it a dump."""
    with _asking("policy routing") as netlink:
        links = _with_address(netlink)
        new = True
        for family in families():
            for kind, link in sorted(_wanted(links[family]), reverse=True):
                new &= _added(partial(rtnetlink.add_route, netlink, family, _route(family, mark, kind, link)))
            new &= _added(partial(rtnetlink.add_rule, netlink, family, _rule(mark, PREFERENCE)))
    return new


def follow(mark: Mark) -> tuple[str, ...]:
    """What is not there of what `ensure` adds, in words; where that is nothing but routes of devices, they are added
    and not told of.

    A device that comes up, or gets an address, after the enrolment is nobody's tampering: the kernel gives a link-local
    address when it gets to it, seconds after the CNI ADD if need be. Until its route is there the device is closed, by
    `prohibit`; so is one whose route alone was deleted."""
    found = []
    with _asking("policy routing") as netlink:
        links = _with_address(netlink)
        late = []
        for family in families():
            version = _version(family)
            if not _rules(netlink, family, mark):
                found.append(f"the {version} policy rule for mark {mark.bit:#x} is missing")
            missing = _wanted(links[family]) - _routes(netlink, family, mark)
            if missing & _wanted(set()):
                found.append(f"{len(missing)} {version} routes of table {mark.table} are missing")
            late += [(family, _route(family, mark, kind, link)) for kind, link in missing]
        if not found:
            for family, route in late:
                _add_late(netlink, family, route)
    return tuple(found)


def listed(mark: Mark) -> tuple[tuple[str, str], ...]:
    """Our rules and routes as (kind, words)."""
    found = []
    with _asking("policy routing") as netlink:
        for family in families():
            version = _version(family)
            for _ in _rules(netlink, family, mark):
                found.append(("policy rule", f"{version} fwmark {mark.bit:#x}/{mark.bit:#x} lookup {mark.table}"))
            for kind, link in sorted(_routes(netlink, family, mark)):
                what = "prohibit default" if kind == RTN_PROHIBIT else f"local default of device {link}"
                found.append(("route", f"{version} {what} table {mark.table}"))
    return tuple(found)


def remove(mark: Mark) -> None:
    """No rule and no route of ours for the mark; gone already is gone."""
    with _asking("policy routing") as netlink:
        for family in families():
            for preference in _rules(netlink, family, mark):
                with _accepted(errno.ENOENT):
                    rtnetlink.delete_rule(netlink, family, _rule(mark, preference))
            for kind, link in _routes(netlink, family, mark):
                with _accepted(errno.ESRCH):
                    rtnetlink.delete_route(netlink, family, _route(family, mark, kind, link))


def loopback_up() -> bool:
    with _asking("the loopback device") as netlink:
        return rtnetlink.loopback(netlink).up


def set_loopback(*, up: bool) -> None:
    with _asking("the loopback device") as netlink:
        rtnetlink.set_link(netlink, LOOPBACK, up=up)


def _ipv6_there() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def _version(family: socket.AddressFamily) -> str:
    return "IPv4" if family == socket.AF_INET else "IPv6"


def _with_address(netlink: Netlink) -> dict[socket.AddressFamily, set[int]]:
    """The devices that are up and have an address, by the family of the address."""
    up = {link.index for link in rtnetlink.links(netlink) if link.up}
    addresses = rtnetlink.addresses(netlink)
    return {
        family: {each.link for each in addresses if each.value.version == version} & up
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6))
    }


def _wanted(links: set[int]) -> set[tuple[int, int]]:
    """(type, device): a route for each device that is up and has an address, the loopback first, and `prohibit`."""
    return {(RTN_LOCAL, LOOPBACK), (RTN_PROHIBIT, 0), *((RTN_LOCAL, link) for link in links)}


def _rules(netlink: Netlink, family: socket.AddressFamily, mark: Mark) -> list[int]:
    """The preferences at which our rule is found."""
    return [rule.preference for rule in rtnetlink.rules(netlink, family) if rule == _rule(mark, rule.preference)]


def _routes(netlink: Netlink, family: socket.AddressFamily, mark: Mark) -> set[tuple[int, int]]:
    """Our routes of the table, as `_wanted` says them."""
    routes: list[Route] = []
    # There is no table before its first route.
    with _accepted(errno.ENOENT):
        routes = rtnetlink.routes(netlink, family, mark.table)
    # IPv6 shows the loopback as the device of a prohibiting route, IPv4 none.
    return {
        (route.kind, 0 if route.kind == RTN_PROHIBIT else route.link) for route in routes if route.protocol == PROTOCOL
    }


def _rule(mark: Mark, preference: int) -> Rule:
    return Rule(preference, mark.table, mark.bit, mark.bit, PROTOCOL)


def _route(family: socket.AddressFamily, mark: Mark, kind: int, link: int) -> Route:
    ipv6 = family == socket.AF_INET6
    if kind == RTN_PROHIBIT:
        return Route(mark.table, kind, LOOPBACK if ipv6 else 0, PROHIBIT_METRIC, PROTOCOL)
    # IPv4 demands RT_SCOPE_HOST of a local route.
    scope = RT_SCOPE_UNIVERSE if ipv6 else RT_SCOPE_HOST
    return Route(mark.table, kind, link, LOCAL_METRIC + link, PROTOCOL, scope)


def _added(add: Callable[[], None]) -> bool:
    """Whether it was not there before."""
    try:
        add()
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _add_late(netlink: Netlink, family: socket.AddressFamily, route: Route) -> None:
    # The device, or its address, may have gone since it was looked at.
    with _accepted(errno.EEXIST), _accepted(errno.ENODEV), _accepted(errno.ENETDOWN):
        rtnetlink.add_route(netlink, family, route)


@contextmanager
def _accepted(code: int) -> Iterator[None]:
    """Somebody was faster: what was to be done is done."""
    try:
        yield
    except OSError as error:
        if error.errno != code:
            raise


@contextmanager
def _asking(what: str) -> Iterator[Netlink]:
    try:
        with Netlink(NETLINK_ROUTE) as netlink:
            yield netlink
    except OSError as error:
        if error.errno == errno.EPERM:
            raise HostError(f"{what} may not be changed", "run as root, with CAP_NET_ADMIN") from error
        if error.errno == errno.ENODEV:
            raise KernelError(f"{what}: a device went away meanwhile", "try again") from error
        if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            raise HostError(f"{what}: the kernel has no policy routing", "build it with IP_MULTIPLE_TABLES") from error
        raise KernelError(f"{what} cannot be changed ({os.strerror(error.errno or 0)})", "try again") from error
