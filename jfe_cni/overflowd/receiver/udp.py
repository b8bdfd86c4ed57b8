"""Notices by UDP: what comes to 65535/udp, and answers from the very address that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import Any

from jfe_cni.errors import HostError, JfeError
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.messages import LARGEST_MESSAGE
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.intake import Origin
from jfe_cni.overflowd.receiver.limits import of_host
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.reception import MOST_WAITING, Reception
from jfe_cni.overflowd.sockets import remedy, udp_socket

# Of one call, so that others have their turn.
_TOGETHER = 64
# struct in6_pktinfo (ipv6(7)): address, interface; in_pktinfo (ip(7)), shorter: interface, the local address that it
# came to, the one in its header.
_PKTINFO = 20
_IP_PKTINFO = 8  # linux/in.h
_BUFFER = 4 * 1024 * 1024
_SO_RXQ_OVFL = 40  # asm-generic/socket.h
_CONTROL = socket.CMSG_SPACE(_PKTINFO) + socket.CMSG_SPACE(4)


class UdpIntake:
    """`address`: of either kind; `::`, all of both, or of IPv4 alone where the kernel has no IPv6. `port`: 0 for any
    that is free, and then which it is."""

    def __init__(self, address: str, port: int, reception: Reception, metrics: Metrics, complaints: Complaints) -> None:
        """Raises HostError: the port is taken, or may not be; there is no IPv6."""
        self._reception = reception
        self._metrics = metrics
        self._complaints = complaints
        self._dropped = 0
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            self._socket, address = udp_socket(address)
        except OSError as error:
            raise _unopened(address, port, error) from error
        try:
            # A host of several addresses would answer from another than was asked, and nobody would take it.
            if self._socket.family is socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((address, port))
        except OSError as error:
            self._socket.close()
            raise _unopened(address, port, error) from error
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
            address, port = of_host(name[0]), name[1]
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
        self, raw: bytes, origin: Origin, name: tuple[Any, ...], control: list[tuple[int, int, bytes]]
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


def _unopened(address: str, port: int, error: OSError) -> HostError:
    return HostError(
        f"UDP port {port} of {address} can't be opened: {os.strerror(error.errno or 0)}",
        remedy(error.errno, "ss -lunp"),
    )


def _from(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The address that it came to, and no interface: routes know better which way back."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:16] + bytes(4))]
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
    return []
