"""Policy routing of the mark: a rule, and a table in which every address is local.

A socket that is bound to a device (SO_BINDTODEVICE) finds only routes over that device; `local default dev eth0` is
one, and still leads to the loopback. Over a device that has none `prohibit` is met, and no table after this one.
Runs on a thread that has entered the namespace; idempotent; pyroute2's synchronous interface.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel.netlink import open_route
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
IFF_UP = 1  # linux/if.h

LOOPBACK = 1
"""The index of `lo` in every namespace (LOOPBACK_IFINDEX, net/flow.h)."""


@dataclass(frozen=True)
class Device:
    index: int
    name: str
    up: bool


def families() -> list[socket.AddressFamily]:
    """IPv4, and IPv6 where the kernel has it."""
    return [socket.AF_INET, *([socket.AF_INET6] if _ipv6_there() else [])]


def ensure(mark: Mark) -> None:
    """Rule and routes, those that are missing. The rule comes last, for it takes effect with the first route."""
    with open_route() as route, _netlink_faults("policy routing"):
        for family in families():
            for kind, device in sorted(_wanted(route, family) - _routes(route, family, mark), reverse=True):
                with _accepted(errno.EEXIST):
                    _change_route(route, "add", family, mark, kind, device)
            if not _rules(route, family, mark):
                with _accepted(errno.EEXIST):
                    _change_rule(route, "add", family, mark, PREFERENCE)


def amiss(mark: Mark) -> tuple[str, ...]:
    """What `ensure` would add, in words."""
    found = []
    with open_route() as route, _netlink_faults("policy routing"):
        for family in families():
            version = "IPv4" if family == socket.AF_INET else "IPv6"
            if not _rules(route, family, mark):
                found.append(f"the {version} policy rule for mark {mark.bit:#x} is missing")
            missing = _wanted(route, family) - _routes(route, family, mark)
            if missing:
                found.append(f"{len(missing)} {version} routes of table {mark.table} are missing")
    return tuple(found)


def listed(mark: Mark) -> tuple[tuple[str, str], ...]:
    """Our rules and routes as (kind, words)."""
    found = []
    with open_route() as route, _netlink_faults("policy routing"):
        for family in families():
            version = "IPv4" if family == socket.AF_INET else "IPv6"
            for _ in _rules(route, family, mark):
                found.append(("policy rule", f"{version} fwmark {mark.bit:#x}/{mark.bit:#x} lookup {mark.table}"))
            for kind, device in sorted(_routes(route, family, mark)):
                what = "prohibit default" if kind == RTN_PROHIBIT else f"local default of device {device}"
                found.append(("route", f"{version} {what} table {mark.table}"))
    return tuple(found)


def remove(mark: Mark) -> None:
    """No rule and no route of ours for the mark; gone already is gone."""
    with open_route() as route, _netlink_faults("policy routing"):
        for family in families():
            for preference in _rules(route, family, mark):
                with _accepted(errno.ENOENT):
                    _change_rule(route, "del", family, mark, preference)
            for kind, device in _routes(route, family, mark):
                with _accepted(errno.ESRCH):
                    _change_route(route, "del", family, mark, kind, device)


def devices(route: Any) -> list[Device]:
    """All devices of the namespace."""
    return [
        Device(link["index"], link.get_attr("IFLA_IFNAME"), bool(link["flags"] & IFF_UP)) for link in route.get_links()
    ]


def loopback_up() -> bool:
    with open_route() as route, _netlink_faults("the loopback device"):
        return any(device.name == "lo" and device.up for device in devices(route))


def set_loopback(*, up: bool) -> None:
    with open_route() as route, _netlink_faults("the loopback device"):
        for device in devices(route):
            if device.name == "lo":
                route.link("set", index=device.index, state="up" if up else "down")


def _ipv6_there() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def _wanted(route: Any, family: socket.AddressFamily) -> set[tuple[int, int]]:
    """(type, device): a route for each device that is up and has an address, the loopback first, and `prohibit`."""
    up = {device.index for device in devices(route) if device.up}
    with_address = {address["index"] for address in route.get_addr(family=family)} & up
    return {(RTN_LOCAL, LOOPBACK), (RTN_PROHIBIT, 0), *((RTN_LOCAL, device) for device in with_address)}


def _rules(route: Any, family: socket.AddressFamily, mark: Mark) -> list[int]:
    """The preferences at which our rule is found."""
    return [
        rule.get_attr("FRA_PRIORITY")
        for rule in route.get_rules(family=family)
        if rule.get_attr("FRA_TABLE") == mark.table
        and rule.get_attr("FRA_FWMARK") == mark.bit
        and rule.get_attr("FRA_FWMASK") == mark.bit
        and rule.get_attr("FRA_PROTOCOL") == PROTOCOL
    ]


def _routes(route: Any, family: socket.AddressFamily, mark: Mark) -> set[tuple[int, int]]:
    """Our routes of the table, as `_wanted` says them."""
    found = set()
    for entry in route.get_routes(family=family, table=mark.table):
        if entry["proto"] == PROTOCOL and entry["dst_len"] == 0 and entry.get_attr("RTA_TABLE") == mark.table:
            # IPv6 shows the loopback as the device of a prohibiting route, IPv4 none.
            found.add((entry["type"], 0 if entry["type"] == RTN_PROHIBIT else entry.get_attr("RTA_OIF")))
    return found


def _change_rule(route: Any, command: str, family: socket.AddressFamily, mark: Mark, preference: int) -> None:
    route.rule(
        command,
        family=family,
        priority=preference,
        table=mark.table,
        action="to_tbl",
        fwmark=mark.bit,
        fwmask=mark.bit,
        protocol=PROTOCOL,
    )


def _change_route(route: Any, command: str, family: socket.AddressFamily, mark: Mark, kind: int, device: int) -> None:
    ipv6 = family == socket.AF_INET6
    words: dict[str, object] = {"family": family, "dst": "default", "table": mark.table, "proto": PROTOCOL}
    if kind == RTN_PROHIBIT:
        words |= {"type": "prohibit", "priority": PROHIBIT_METRIC} | ({"oif": LOOPBACK} if ipv6 else {})
    else:
        words |= {"type": "local", "oif": device, "priority": LOCAL_METRIC + device}
        # RT_SCOPE_HOST, which IPv4 demands of a local route.
        words |= {} if ipv6 else {"scope": 254}
    route.route(command, **words)


@contextmanager
def _accepted(code: int) -> Iterator[None]:
    """Somebody was faster: what was to be done is done."""
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise


@contextmanager
def _netlink_faults(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise HostError(f"{what} may not be changed", "run as root, with CAP_NET_ADMIN") from error
        if error.code == errno.ENODEV:
            raise KernelError(f"{what}: a device went away meanwhile", "try again") from error
        if error.code in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            raise HostError(f"{what}: the kernel has no policy routing", "build it with IP_MULTIPLE_TABLES") from error
        raise KernelError(f"{what} cannot be changed ({error})", "try again") from error
