"""Notices by UDP: what comes to 65535/udp, and answers from the very address that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from jfe_cni.errors import HostError, JfeError
from jfe_cni.overflowd.datagrams import address_of
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.messages import LARGEST_MESSAGE
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.intake import Origin
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.reception import MOST_WAITING, Reception

# Of one call, so that others have their turn.
_TOGETHER = 64
_PKTINFO = 20  # struct in6_pktinfo (ipv6(7)): address, interface
_BUFFER = 4 * 1024 * 1024
_SO_RXQ_OVFL = 40  # asm-generic/socket.h
_CONTROL = socket.CMSG_SPACE(_PKTINFO) + socket.CMSG_SPACE(4)


class UdpIntake:
    """Both kinds of addresses on one port. `port`: 0 for any that is free, and then which it is."""

    def __init__(self, address: str, port: int, reception: Reception, metrics: Metrics, complaints: Complaints) -> None:
        """Raises HostError: the port is taken, or may not be."""
        self._reception = reception
        self._metrics = metrics
        self._complaints = complaints
        self._dropped = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # A host of several addresses would answer from another than was asked, and nobody would take it.
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((_mapped(address), port))
        except OSError as error:
            self._socket.close()
            raise HostError(
                f"UDP port {port} of {address} can't be opened: {os.strerror(error.errno or 0)}",
                "see who has it (ss -lunp)",
            ) from error
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    async def close(self) -> None:
        """What came is still answered, for as long as the caller waits."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_TOGETHER):
            try:
                # One byte more: what is too large is seen to be.
                raw, control, _, name = self._socket.recvmsg(LARGEST_MESSAGE + 1, _CONTROL)
            except BlockingIOError:
                return
            except OSError:
                # What an answer of ours met (ip(7)): of no concern for what comes next.
                continue
            self._count_drops(control)
            address, port = address_of(socket.inet_pton(socket.AF_INET6, name[0].partition("%")[0])), name[1]
            origin = Origin(address, port)
            # To port 0 nothing can be sent (RFC 768: no reply is wanted).
            if port == 0 or not self._reception.admits(origin):
                continue
            if len(self._tasks) >= 2 * MOST_WAITING:
                self._metrics.failed()
                continue
            task = asyncio.get_running_loop().create_task(self._serve(raw, origin, name, control))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _count_drops(self, control: list[tuple[int, int, bytes]]) -> None:
        """Told with each datagram, from the first drop on: how many there were by then."""
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                dropped = int.from_bytes(data, sys.byteorder)
                # A counter of 32 bits.
                self._metrics.dropped((dropped - self._dropped) % (1 << 32))
                self._dropped = dropped

    async def _serve(
        self, raw: bytes, origin: Origin, name: tuple[str, int, int, int], control: list[tuple[int, int, bytes]]
    ) -> None:
        try:
            answered = await self._reception.take(raw, origin)
        except JfeError as error:
            self._metrics.failed()
            self._complaints.complain(f"a notice could not be kept: {error}")
            return
        if answered.message is not None:
            # What can't be sent is not: it was asked for by somebody who will ask again.
            with contextlib.suppress(OSError):
                self._socket.sendmsg([messages.encode(answered.message)], _from(control), 0, name)


def _mapped(address: str) -> str:
    return address if ":" in address else "::" if address == "0.0.0.0" else f"::ffff:{address}"


def _from(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The address that it came to, and no interface: routes know better which way back."""
    kind = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    return [(*kind, data[:16] + bytes(4)) for level, type_, data in control if (level, type_) == kind]
