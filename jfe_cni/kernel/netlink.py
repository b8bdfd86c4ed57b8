"""netlink(7) itself: messages, attributes, and one conversation with the kernel.

Raw, and not by a library: an enrolment asks some twenty questions while a pod waits for it, and pyroute2 takes one or
two milliseconds to decode the answer to each (an event loop a socket, a class an attribute); the kernel takes some ten
microseconds. Here nothing is decoded that nobody asked for.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import calcsize, pack, unpack_from
from types import TracebackType
from typing import NamedTuple, Self

from jfe_cni.errors import HostError, KernelError

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
"""linux/netlink.h"""

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 1, 4, 0x10
NLM_F_DUMP = 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
"""linux/netlink.h"""

NLMSG_ERROR, NLMSG_DONE = 2, 3
"""linux/netlink.h"""

NLMSG_HEADER = 16
"""Bytes of struct nlmsghdr, netlink(7)."""

NLA_TYPE_MASK, NLA_F_NESTED = 0x3FFF, 0x8000
"""linux/netlink.h: the two bits above the type are flags."""

SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
"""linux/netlink.h; the kernel heeds what a dump is filtered by (Linux 4.20)."""

BUFFER = 1 << 16
"""A part of a dump is at most 32 KiB (net/netlink/af_netlink.c, netlink_dump)."""

ATTEMPTS = 10
"""How often a dump is begun again that changes had interrupted."""


class Change(NamedTuple):
    """One message of a transaction: its type, its flags beside those that every one has, its body."""

    kind: int
    flags: int
    body: bytes


class Netlink:
    """One socket in the calling thread's namespace, to be used on that thread.

    What the kernel refuses is an OSError with its number."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        if protocol == NETLINK_ROUTE:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, kind: int, body: bytes) -> bytes:
        """The one answer to a question, without its header."""
        self._send(kind, NLM_F_REQUEST, body)
        for _, message in self._received():
            return message
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def change(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Done when this returns."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        for _ in self._received():
            continue

    def transact(self, begin: tuple[int, bytes], changes: Sequence[Change], end: tuple[int, bytes]) -> None:
        """A transaction of `changes`, one or more, between the messages that begin and end it: all of them or none.

        One sequence number for all, for the first report tells how it went: only the last change asks for one, what is
        refused before it is reported before it, and so is a refusal of the whole (net/netfilter/nfnetlink.c,
        nfnetlink_rcv_batch)."""
        self._sequence += 1
        *others, (kind, flags, body) = changes
        parts = (
            Change(begin[0], 0, begin[1]),
            *others,
            Change(kind, flags | NLM_F_ACK, body),
            Change(end[0], 0, end[1]),
        )
        self._socket.send(
            b"".join(_message(kind, NLM_F_REQUEST | flags, self._sequence, body) for kind, flags, body in parts)
        )
        for _ in self._received():
            continue

    def stream(self, kind: int, body: bytes) -> Iterator[bytes]:
        """A dump's messages without their headers, as they come. OSError(EINTR) at its end: changes have interrupted
        it. Whoever does not read to the end must close the socket."""
        interrupted = False
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        for flags, message in self._received(dump=True):
            interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
            yield message
        if interrupted:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """A whole dump of one moment."""
        for _ in range(ATTEMPTS - 1):
            try:
                return list(self.stream(kind, body))
            except InterruptedError:
                continue
        return list(self.stream(kind, body))

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_message(kind, flags, self._sequence, body))

    def _received(self, *, dump: bool = False) -> Iterator[tuple[int, bytes]]:
        """(flags, message without header) up to the end of the answer: the end of a dump, the acknowledgement of a
        change, or the one answer to a question."""
        while True:
            received = memoryview(self._socket.recv(BUFFER))
            while len(received) >= NLMSG_HEADER:
                length, kind, flags, sequence = unpack_from("=IHHI", received)
                if sequence == self._sequence:
                    body = received[NLMSG_HEADER:length]
                    if kind in (NLMSG_ERROR, NLMSG_DONE):
                        # struct nlmsgerr begins with a negative errno or 0; so does the end of a dump.
                        code = -unpack_from("=i", body)[0] if len(body) >= calcsize("=i") else 0
                        if code:
                            raise OSError(code, os.strerror(code))
                        return
                    yield flags, bytes(body)
                    if not dump:
                        return
                received = received[aligned(length) :]


@contextmanager
def asking(protocol: int, what: str) -> Iterator[Netlink]:
    """A conversation that begins here and ends with the body. Raises HostError where the kernel lets nobody but root
    ask, KernelError for all else that it refuses; `what` can't be had then."""
    try:
        with Netlink(protocol) as netlink:
            yield netlink
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise HostError(f"{what}: the kernel does not permit it", "run as root, with CAP_NET_ADMIN") from error
        raise KernelError(f"{what}: {os.strerror(error.errno or 0)}", "try again; see `jfe doctor`") from error


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """struct nlmsghdr and what follows it."""
    return (pack("=IHHII", NLMSG_HEADER + len(body), kind, flags, sequence, 0) + body).ljust(
        aligned(NLMSG_HEADER + len(body)), b"\0"
    )


def attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr, padded."""
    return (pack("=HH", 4 + len(value), kind) + value).ljust(aligned(4 + len(value)), b"\0")


def text(value: str) -> bytes:
    """A name as an attribute's value."""
    return value.encode() + b"\0"


def each_attribute(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute of `body`, in order. What is no attribute ends it."""
    at = 0
    while at + 4 <= len(body):
        length, kind = unpack_from("=HH", body, at)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, body[at + 4 : at + length]
        at += aligned(length)


def attributes(body: bytes) -> dict[int, bytes]:
    """By type; of several of one type the last."""
    return dict(each_attribute(body))


def aligned(length: int) -> int:
    """NLMSG_ALIGN and NLA_ALIGN, linux/netlink.h."""
    return (length + 3) & ~3
