"""TCP sockets of a namespace as sock_diag(7) shows them: which connections are open, who listens, and ending some.

The functions that take no namespace run on a thread that has entered it (`run_inside`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import pack, unpack_from
from typing import Any

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel.netlink import (
    NETLINK_SOCK_DIAG,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_HEADER,
    open_diag,
    open_route,
)
from jfe_cni.rules.model import ConnectionTuple

ALL_STATES = (1 << 32) - 1

SOCK_DESTROY = 21
"""linux/sock_diag.h; needs CONFIG_INET_DIAG_DESTROY."""

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
"""States of net/tcp_states.h."""

OPEN = (ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING)
"""States in which a socket may still send a byte, or be sent one."""


@dataclass(frozen=True)
class TcpSocket:
    """One socket. `cgroup` is the number (inode) of the cgroup that it was made in; 0: the kernel does not tell."""

    state: int
    connection: tuple[str, int, str, int]
    cgroup: int
    inode: int
    uid: int
    device: int
    cookie: int
    ipv6: bool

    def tuple(self) -> ConnectionTuple:
        """The four-tuple; an IPv4 connection of an IPv6 socket is given as what it is on the wire, IPv4."""
        local, local_port, remote, remote_port = self.connection
        return ConnectionTuple(_plain(local), local_port, _plain(remote), remote_port)


def sockets(states: Iterable[int]) -> tuple[TcpSocket, ...]:
    """The TCP sockets of the calling thread's namespace that are in one of `states`."""
    mask = sum(1 << state for state in states)
    found: list[TcpSocket] = []
    with open_diag() as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            found += [_socket(message) for message in diag.get_sock_stats(family=family, states=mask)]
    return tuple(found)


def connections(cgroups: Collection[int] | None = None) -> frozenset[ConnectionTuple]:
    """Connections to foreign addresses that may still carry a byte; of the `cgroups` given, or of all."""
    own = {ip_address(address) for address in local_addresses()}
    return frozenset(
        found
        for each in sockets(OPEN)
        if cgroups is None or each.cgroup in cgroups
        for found in [each.tuple()]
        if not found.remote.is_loopback and found.remote not in own
    )


def listening(cgroups: Collection[int] | None = None) -> tuple[TcpSocket, ...]:
    """Listening sockets made in one of `cgroups`, or all."""
    return tuple(each for each in sockets([LISTEN]) if cgroups is None or each.cgroup in cgroups)


def destroy(wanted: Iterable[ConnectionTuple]) -> int:
    """Reset both ends of each connection; how many there were. Those that have ended meanwhile are done.

    HostError where the kernel was built without it."""
    ending = frozenset(wanted)
    found = [each for each in sockets(OPEN) if each.tuple() in ending]
    # Not by pyroute2's DiagSocket: it tells messages apart by address family, and takes an error's answer for data.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as netlink:
        return sum(_destroy_one(netlink, each) for each in found)


def local_addresses() -> frozenset[str]:
    """All addresses of the calling thread's namespace."""
    with open_route() as route:
        return frozenset(
            address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS") for address in route.get_addr()
        )


def _destroy_one(netlink: socket.socket, ending: TcpSocket) -> bool:
    local, local_port, remote, remote_port = ending.connection
    family = socket.AF_INET6 if ending.ipv6 else socket.AF_INET
    # struct inet_diag_sockid. The cookie makes it that very socket: without it, the kernel's look-up of a connection
    # that has ended meanwhile goes on to the listener, and ends that.
    identity = (
        pack("!HH", local_port, remote_port)
        + socket.inet_pton(family, local).ljust(16, b"\0")
        + socket.inet_pton(family, remote).ljust(16, b"\0")
        + pack("=IQ", ending.device, ending.cookie)
    )
    # struct inet_diag_req_v2: family, protocol, ext, pad, states, id
    request = pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + identity
    flags = NLM_F_REQUEST | NLM_F_ACK
    netlink.send(pack("=IHHII", NLMSG_HEADER + len(request), SOCK_DESTROY, flags, 1, 0) + request)
    answer = netlink.recv(4096)
    # struct nlmsgerr: a negative errno, or 0
    code = -unpack_from("=i", answer, NLMSG_HEADER)[0]
    if code in (0, errno.ENOENT, errno.ESTALE):
        return bool(code == 0)
    if code == errno.EPERM:
        raise HostError("connections may not be ended", "run as root, with CAP_NET_ADMIN")
    if code == errno.EOPNOTSUPP:
        raise HostError("the kernel cannot end connections", "build it with CONFIG_INET_DIAG_DESTROY")
    raise KernelError(f"a connection cannot be ended ({errno.errorcode.get(code, code)})", "try again")


def _socket(message: Any) -> TcpSocket:
    return TcpSocket(
        state=message["idiag_state"],
        connection=(message["idiag_src"], message["idiag_sport"], message["idiag_dst"], message["idiag_dport"]),
        cgroup=message.get_attr("INET_DIAG_CGROUP_ID") or 0,
        inode=message["idiag_inode"],
        uid=message["idiag_uid"],
        device=message["idiag_if"],
        cookie=message["idiag_cookie"],
        ipv6=message["idiag_family"] == socket.AF_INET6,
    )


def _plain(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
