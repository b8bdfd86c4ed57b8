"""What the rules are made from: intents, and the ruleset that they become.

Ports are TCP ports, marks are bits of a packet's mark (`meta mark`), paths of cgroups are as `nft` wants them: below
`/sys/fs/cgroup`, without a leading slash (`unified/jfe/n1/upgrader` on a host with both hierarchies).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

from jfe_cni.errors import RequestError

DEFAULT_MARK_BIT = 0x00400000
"""Kubernetes' kube-proxy uses 0x4000 and 0x8000, Calico 0xffff0000 from the top down as it needs, Cilium 0x0f00."""

DEFAULT_TABLE = 29286
"""A routing table of our own: "jf" in UTF-16, clear of 253-255 (rt_tables) and of what others are known to use."""

WORKLOAD_ID = re.compile(r"[a-z0-9-]{1,64}")
CGROUP_PATH = re.compile(r"[^\x00-\x1f\x7f\"\\*]{1,1000}")


class Mode(enum.Enum):
    """What an enrolled workload allows; a workload that is `off` has no rules."""

    PERMISSIVE = "permissive"
    STRICT = "strict"


@dataclass(frozen=True)
class Mark:
    """One bit of the packet mark, set and tested under itself as mask, and the routing table that it selects."""

    bit: int = DEFAULT_MARK_BIT
    table: int = DEFAULT_TABLE

    def __post_init__(self) -> None:
        if not 0 < self.bit < 1 << 32 or self.bit & (self.bit - 1):
            raise RequestError(f"mark {self.bit:#x} is not one bit", "choose one bit of 32, such as 0x400000")
        if not 0 < self.table < 1 << 32 or self.table in (253, 254, 255):
            raise RequestError(f"routing table {self.table} cannot be ours", "choose another number, such as 29286")


@dataclass(frozen=True)
class Cgroup:
    """A cgroup v2: its path as `nft` wants it, and how many steps it lies below the v2 root."""

    path: str
    level: int

    def __post_init__(self) -> None:
        # nft has no escapes inside a quoted string, so a path with a quote cannot be said; `*` would be a wildcard.
        if not CGROUP_PATH.fullmatch(self.path) or self.path.startswith("/"):
            raise RequestError(f"cgroup path {self.path!r} cannot be written in a rule", "choose a plain name")
        # net/netfilter/nft_socket.c: levels above 255 are refused.
        if not 0 < self.level <= 255:
            raise RequestError(f"cgroup level {self.level} is not in 1..255", "place the cgroup less deep")


@dataclass(frozen=True)
class Exemption(Cgroup):
    """The cgroup of the upgrader's own sockets, left alone."""


@dataclass(frozen=True)
class ConnectionTuple:
    """One TCP connection, as its own namespace sees it: local end, then remote end."""

    local: IPv4Address | IPv6Address
    local_port: int
    remote: IPv4Address | IPv6Address
    remote_port: int

    def __post_init__(self) -> None:
        if self.local.version != self.remote.version:
            raise RequestError("a connection has ends of two address families", "name both ends alike")
        check_port(self.local_port)
        check_port(self.remote_port)


@dataclass(frozen=True)
class NamespaceIntent:
    """A workload with a network namespace of its own. `bare` are the connections left as they were at enrolment."""

    workload: str
    mark: Mark
    outbound_port: int
    inbound_port: int
    ipv6: bool
    mode: Mode
    exemption: Exemption
    bare: tuple[ConnectionTuple, ...] = ()

    def __post_init__(self) -> None:
        check_workload(self.workload)
        check_port(self.outbound_port)
        check_port(self.inbound_port)
        if self.mode is Mode.STRICT and self.bare:
            raise RequestError("a strict workload keeps no bare connections", "end them before")


@dataclass(frozen=True)
class Former:
    """What a namespace was like before its enrolment, kept in its table's comment so that any agent can restore it.

    Sysctls as in Documentation/networking/ip-sysctl.rst; `ipv6_reflect` is None where the kernel has no IPv6."""

    accept: int
    reflect: int
    ipv6_reflect: int | None
    loopback_up: bool

    WORD: ClassVar[str] = "former"

    def words(self) -> str:
        """As a table's comment says it: `former 0 0 0 1`, with `-` for what is absent."""
        ipv6 = "-" if self.ipv6_reflect is None else str(self.ipv6_reflect)
        return f"{self.WORD} {self.accept} {self.reflect} {ipv6} {int(self.loopback_up)}"

    @classmethod
    def parse(cls, comment: str) -> Former | None:
        """What `words` wrote, anywhere in `comment`; None where there is nothing of the kind."""
        found = re.search(rf"\b{cls.WORD} ([01]) ([01]) ([01-]) ([01])(?:\s|$)", comment)
        if found is None:
            return None
        accept, reflect, ipv6, loopback = found.groups()
        return cls(int(accept), int(reflect), None if ipv6 == "-" else int(ipv6), loopback == "1")


@dataclass(frozen=True)
class HostWorkload:
    """Processes of the host's namespace. `listener_ports`: where they listen on sockets that others made for them."""

    workload: str
    cgroup: Cgroup
    outbound_port: int
    inbound_port: int
    mode: Mode
    listener_ports: tuple[int, ...] = ()
    bare: tuple[ConnectionTuple, ...] = ()

    def __post_init__(self) -> None:
        check_workload(self.workload)
        for port in (self.outbound_port, self.inbound_port, *self.listener_ports):
            check_port(port)
        if self.mode is Mode.STRICT and self.bare:
            raise RequestError("a strict workload keeps no bare connections", "end them before")


@dataclass(frozen=True)
class HostIntent:
    """All workloads of the host's namespace: their rules are one table, replaced whole."""

    mark: Mark
    exemption: Exemption
    workloads: tuple[HostWorkload, ...]
    ipv6: bool = True

    def __post_init__(self) -> None:
        for what, values in (
            ("workload", [w.workload for w in self.workloads]),
            ("cgroup", [w.cgroup.path for w in self.workloads]),
            ("listener", [p for w in self.workloads for p in (w.outbound_port, w.inbound_port)]),
            ("listener port", [p for w in self.workloads for p in w.listener_ports]),
        ):
            if len(set(values)) != len(values):
                raise RequestError(f"two workloads of the host share a {what}", "give each its own")


@dataclass(frozen=True)
class Proof:
    """Digests, in hexadecimal, of rules as they were wanted and of the table that the kernel made of them. While both
    are the same, nobody has changed the rules since they were loaded, whoever loaded them."""

    wanted: str
    found: str


@dataclass(frozen=True)
class Ruleset:
    """One nft table as text; loading it replaces the table in one transaction. It is tagged with `workloads`."""

    table: str
    family: str
    text: str
    workloads: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """The text without the table's comment: chains, sets, objects and rules, and to what table they belong."""
        return re.sub(r'^\tcomment "[^"]*"\n', "", self.text, count=1, flags=re.MULTILINE)

    @property
    def addition(self) -> str:
        """The text for a table that is there with the same comment, and has nothing in it: nothing is taken away."""
        return self.text.removeprefix(
            f"add table {self.family} {self.table}\ndelete table {self.family} {self.table}\n"
        )


def check_workload(workload: str) -> str:
    """The id itself. RequestError unless it is one: `[a-z0-9-]`, at most 64 characters."""
    if not WORKLOAD_ID.fullmatch(workload):
        raise RequestError(f"workload id {workload!r} is not of [a-z0-9-], 1 to 64 characters", "choose another id")
    return workload


def check_port(port: int) -> None:
    """Raise RequestError unless `port` is a TCP port, 1 to 65535."""
    if not 0 < port < 1 << 16:
        raise RequestError(f"{port} is not a TCP port", "give one of 1 to 65535")
