"""Conntrack's table of a namespace as ctnetlink gives it: what is in it, and what an entry had counted when it ended.

An entry is there where a rule of the namespace asks for conntrack (NAT, `ct state`); nothing here makes the kernel
track what it does not track anyway. All runs in the calling thread's namespace.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from struct import Struct, unpack_from

from jfe_cni.errors import HostError, KernelError
from jfe_cni.kernel.netlink import (
    BUFFER,
    NETLINK_NETFILTER,
    NLMSG_HEADER,
    aligned,
    asking,
    attributes,
)

IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 1 << 8 | 1, 1 << 8 | 2
"""linux/netfilter/nfnetlink_conntrack.h, below NFNL_SUBSYS_CTNETLINK of linux/netfilter/nfnetlink.h."""

NFNLGRP_CONNTRACK_DESTROY = 3
"""linux/netfilter/nfnetlink_compat.h"""

NFGENMSG = 4
"""Bytes of struct nfgenmsg, linux/netfilter/nfnetlink.h; all zero asks for both families."""

CTA_TUPLE_ORIG, CTA_TUPLE_REPLY = 1, 2
CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY, CTA_ID, CTA_ZONE, CTA_TIMESTAMP = 9, 10, 12, 18, 20
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE = 5, 6, 8, 9
CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES = 1, 2
CTA_TIMESTAMP_START = 1
"""linux/netfilter/nfnetlink_conntrack.h"""

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
"""netlink(7)"""

SO_RCVBUFFORCE = 33
"""asm-generic/socket.h, socket(7): beyond net.core.rmem_max, with CAP_NET_ADMIN."""

EVENTS_BUFFER = 8 << 20
"""Bytes: some ten thousand ends, each of which takes 768 with the kernel's own."""

ACCOUNTING = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
EVENTS = Path("/proc/sys/net/netfilter/nf_conntrack_events")
"""Documentation/networking/nf_conntrack-sysctl.rst; of the reader's namespace."""

_COUNT = Struct("!Q")
_ICMP = {1: (CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE), 58: (CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE)}


@dataclass(frozen=True, slots=True)
class Tuple:
    """One way, as conntrack expects it. Of ICMP `destination_port` is type and code, a byte each."""

    source: IPv4Address | IPv6Address
    source_port: int
    destination: IPv4Address | IPv6Address
    destination_port: int


@dataclass(frozen=True, slots=True)
class Entry:
    """`sent`: packets and octets (from the IP header on) the way of the first packet, `returned`: the other way; None
    where the kernel did not count. `key` names it among all that live. What is decoded only when it is asked for is
    kept as the kernel gave it."""

    key: bytes
    sent: tuple[int, int] | None
    returned: tuple[int, int] | None
    _original: bytes
    _reply: bytes
    _timestamp: bytes | None

    @property
    def protocol(self) -> int:
        return attributes(attributes(self._original)[CTA_TUPLE_PROTO])[CTA_PROTO_NUM][0]

    def original(self) -> Tuple:
        """As the first packet came: before any NAT."""
        return _tuple(self._original)

    def reply(self) -> Tuple:
        """As answers come: before NAT is undone."""
        return _tuple(self._reply)

    def started(self) -> int | None:
        """Nanoseconds since the epoch; None where the namespace does not note it (nf_conntrack_timestamp)."""
        if self._timestamp is None:
            return None
        found = attributes(self._timestamp).get(CTA_TIMESTAMP_START)
        return None if found is None else int(_COUNT.unpack_from(found)[0])


class Dump:
    """The entries there are, `most` at most, as the kernel gives them: the table is never in memory as a whole. Not of
    one moment: one that comes or goes meanwhile is in it or not.

    To be gone through once; raises HostError, KernelError then. `whole`: it was, and nothing was left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.whole = False

    def __iter__(self) -> Iterator[Entry]:
        with (
            asking(NETLINK_NETFILTER, "conntrack's table can't be read") as netlink,
            contextlib.suppress(InterruptedError),
        ):
            for number, message in enumerate(netlink.stream(IPCTNL_MSG_CT_GET, bytes(NFGENMSG))):
                if number == self._most:
                    # The socket is closed with the rest unread, which ends the dump.
                    return
                yield _entry(message)
        self.whole = True


class Endings:
    """What has ended since the last look, with what it had counted. To be closed; of the namespace that made it."""

    def __init__(self) -> None:
        """Raises HostError where the kernel does not permit it, KernelError."""
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
            )
            try:
                self._socket.bind((0, 0))
                with contextlib.suppress(PermissionError):
                    self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, EVENTS_BUFFER)
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_CONNTRACK_DESTROY)
            except OSError:
                self._socket.close()
                raise
        except PermissionError as error:
            raise HostError("conntrack's events may not be had", "run as root, with CAP_NET_ADMIN") from error
        except OSError as error:
            raise KernelError(f"conntrack's events can't be had ({error.strerror})", "see `jfe doctor`") from error
        self.overruns = 0
        """How often the kernel had more to tell than the socket holds."""

    def close(self) -> None:
        self._socket.close()

    def take(self) -> Iterator[Entry]:
        """Those that wait to be read; never waits itself."""
        while True:
            try:
                received = memoryview(self._socket.recv(BUFFER))
            except BlockingIOError:
                return
            except OSError as error:
                # What was lost is not told of again (netlink(7)); what still waits is whole.
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"conntrack's events can't be read ({error.strerror})", "try again") from error
                self.overruns += 1
                continue
            while len(received) >= NLMSG_HEADER:
                length, kind = unpack_from("=IH", received)
                if length < NLMSG_HEADER:
                    break
                if kind == IPCTNL_MSG_CT_DELETE:
                    yield _entry(bytes(received[NLMSG_HEADER:length]))
                received = received[aligned(length) :]


def accounts() -> bool | None:
    """Whether the namespace counts what entries that are made now carry; None: it has no conntrack."""
    return _switched_on(ACCOUNTING)


def tells_of_ends() -> bool:
    """Whether whoever listens is told of ends (1: of all, 2: of entries made while somebody listens)."""
    return bool(_switched_on(EVENTS))


def account(*, on: bool) -> None:
    """Entries made from now on are counted, or not. Raises KernelError."""
    try:
        ACCOUNTING.write_text("1" if on else "0")
    except OSError as error:
        raise KernelError(
            f"nf_conntrack_acct can't be set ({error.strerror})", "set net.netfilter.nf_conntrack_acct=1 by sysctl"
        ) from error


def _switched_on(file: Path) -> bool | None:
    try:
        return file.read_text().strip() != "0"
    except FileNotFoundError:
        return None


def _entry(message: bytes) -> Entry:
    found = attributes(message[NFGENMSG:])
    original = found[CTA_TUPLE_ORIG]
    return Entry(
        key=original + found.get(CTA_ZONE, b"") + found.get(CTA_ID, b""),
        sent=_count(found.get(CTA_COUNTERS_ORIG)),
        returned=_count(found.get(CTA_COUNTERS_REPLY)),
        _original=original,
        _reply=found[CTA_TUPLE_REPLY],
        _timestamp=found.get(CTA_TIMESTAMP),
    )


def _count(counters: bytes | None) -> tuple[int, int] | None:
    if counters is None:
        return None
    found = attributes(counters)
    return (
        int(_COUNT.unpack_from(found[CTA_COUNTERS_PACKETS])[0]),
        int(_COUNT.unpack_from(found[CTA_COUNTERS_BYTES])[0]),
    )


def _tuple(nested: bytes) -> Tuple:
    parts = attributes(nested)
    addresses, protocol = attributes(parts[CTA_TUPLE_IP]), attributes(parts[CTA_TUPLE_PROTO])
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    if CTA_IP_V4_SRC in addresses:
        source, destination = IPv4Address(addresses[CTA_IP_V4_SRC]), IPv4Address(addresses[CTA_IP_V4_DST])
    else:
        source, destination = IPv6Address(addresses[CTA_IP_V6_SRC]), IPv6Address(addresses[CTA_IP_V6_DST])
    icmp = _ICMP.get(protocol[CTA_PROTO_NUM][0])
    if icmp is not None:
        kind, code = (protocol[each][0] for each in icmp)
        return Tuple(source, 0, destination, kind << 8 | code)
    ports = (protocol.get(each) for each in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT))
    source_port, destination_port = (0 if port is None else int.from_bytes(port) for port in ports)
    return Tuple(source, source_port, destination, destination_port)
