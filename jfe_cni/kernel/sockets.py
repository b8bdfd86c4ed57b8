"""TCP sockets of a namespace as sock_diag(7) shows them: which connections are open, who listens, and ending some.

The functions that take no namespace run on a thread that has entered it (`run_inside`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from struct import pack, unpack_from

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel import rtnetlink
from jfe_cni.kernel.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink, asking, attributes
from jfe_cni.rules.model import ConnectionTuple

ALL_STATES = (1 << 32) - 1

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
"""linux/sock_diag.h; the second needs CONFIG_INET_DIAG_DESTROY."""

INET_DIAG_MSG, INET_DIAG_CGROUP_ID = 72, 21
"""linux/inet_diag.h: bytes of struct inet_diag_msg; an attribute that the kernel gives unasked (Linux 5.9)."""

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
    with asking(NETLINK_SOCK_DIAG, "connections can't be read or ended") as netlink:
        return tuple(
            _socket(message)
            for family in (socket.AF_INET, socket.AF_INET6)
            # Not of one moment: a busy namespace has none that a dump would get hold of.
            for message in netlink.stream(SOCK_DIAG_BY_FAMILY, _request(family, mask, bytes(48)))
        )


def connections(cgroups: Collection[int] | None = None) -> frozenset[ConnectionTuple]:
    """Connections to foreign addresses that may still carry a byte; of the `cgroups` given, or of all."""
    if _nothing_but_listeners():
        return frozenset()
    own = local_addresses()
    return frozenset(
        found
        for each in sockets(OPEN)
        if cgroups is None or each.cgroup in cgroups
        for found in [each.tuple()]
        if not found.remote.is_loopback and found.remote not in own
    )


def _nothing_but_listeners() -> bool:
    """The kernel looks for a namespace's connections among all of the host's, a millisecond's work; how many sockets a
    namespace has it knows (`inuse` of proc(5)'s sockstat: those that listen or have a connection)."""
    return in_use() == len(sockets([LISTEN]))


def in_use() -> int:
    """How many TCP sockets of the calling thread's namespace listen or are connected; 0 costs no more than any."""
    count = 0
    for name, protocol in (("sockstat", "TCP:"), ("sockstat6", "TCP6:")):
        path = Path("/proc/thread-self/net", name)
        for line in path.read_text().splitlines() if path.exists() else ():
            match line.split():
                case [first, "inuse", number, *_] if first == protocol:
                    count += int(number)
    return count


def listening(cgroups: Collection[int] | None = None) -> tuple[TcpSocket, ...]:
    """Listening sockets made in one of `cgroups`, or all."""
    return tuple(each for each in sockets([LISTEN]) if cgroups is None or each.cgroup in cgroups)


def destroy(wanted: Iterable[ConnectionTuple]) -> int:
    """Reset both ends of each connection; how many there were. Those that have ended meanwhile are done.

    HostError where the kernel was built without it."""
    ending = frozenset(wanted)
    found = [each for each in sockets(OPEN) if each.tuple() in ending]
    with asking(NETLINK_SOCK_DIAG, "connections can't be read or ended") as netlink:
        return sum(_destroy_one(netlink, each) for each in found)


def local_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """All addresses of the calling thread's namespace."""
    with asking(NETLINK_ROUTE, "addresses can't be read") as netlink:
        return frozenset(address.value for address in rtnetlink.addresses(netlink))


def _destroy_one(netlink: Netlink, ending: TcpSocket) -> bool:
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
    try:
        netlink.change(SOCK_DESTROY, _request(family, ALL_STATES, identity))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        if error.errno == errno.EPERM:
            raise HostError("connections may not be ended", "run as root, with CAP_NET_ADMIN") from error
        if error.errno == errno.EOPNOTSUPP:
            raise HostError("the kernel cannot end connections", "build it with CONFIG_INET_DIAG_DESTROY") from error
        code = errno.errorcode.get(error.errno or 0, error.errno)
        raise KernelError(f"a connection cannot be ended ({code})", "try again") from error
    return True


def _request(family: socket.AddressFamily, states: int, identity: bytes) -> bytes:
    """struct inet_diag_req_v2: family, protocol, ext, pad, states, id"""
    return pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states) + identity


def _socket(message: bytes) -> TcpSocket:
    # struct inet_diag_msg: family, state, timer, retrans; struct inet_diag_sockid; expires, queues, uid, inode
    family, state = message[0], message[1]
    local_port, remote_port = unpack_from("!HH", message, 4)
    size = 16 if family == socket.AF_INET6 else 4
    local, remote = (socket.inet_ntop(family, message[at : at + size]) for at in (8, 24))
    device, cookie = unpack_from("=IQ", message, 40)
    uid, inode = unpack_from("=II", message, 64)
    cgroup = attributes(message[INET_DIAG_MSG:]).get(INET_DIAG_CGROUP_ID)
    return TcpSocket(
        state=state,
        connection=(local, local_port, remote, remote_port),
        cgroup=0 if cgroup is None else unpack_from("=Q", cgroup)[0],
        inode=inode,
        uid=uid,
        device=device,
        cookie=cookie,
        ipv6=family == socket.AF_INET6,
    )


def _plain(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
