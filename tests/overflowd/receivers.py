"""Receivers that do as they are told, on real sockets: what they got, and what they answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from jfe_cni.overflowd.notices import messages

Reply = Callable[[bytes], Iterable[bytes]]
# linux/in.h; a struct in_pktinfo has the interface, the address that it came to, and the one in its header.
_IP_PKTINFO = 8


class UdpReceiver:
    """`reply`: what goes back for a datagram, from the address that it came to."""

    def __init__(self, opened: socket.socket, reply: Reply) -> None:
        self.got: list[bytes] = []
        self.senders: list[Any] = []
        self.came = asyncio.Event()
        self._reply = reply
        self._socket = opened
        self.port: int = opened.getsockname()[1]

    def send(self, data: bytes, to: Any, came_to: bytes | None = None) -> None:
        # Only the address: the interface is the routing table's business.
        source = [] if came_to is None else [(socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + came_to[4:8] + bytes(4))]
        self._socket.sendmsg([data], source, 0, to)

    def drain(self) -> None:
        """What has come, and waits: by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.receive()

    def receive(self) -> None:
        data, controls, _, sender = self._socket.recvmsg(65_536, 256)
        came_to = next((each for level, kind, each in controls if (level, kind) == (0, _IP_PKTINFO)), None)
        self.got.append(data)
        self.senders.append(sender)
        self.came.set()
        for each in self._reply(data):
            self.send(each, sender, came_to)


@contextlib.asynccontextmanager
async def udp_receiver(reply: Reply, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[UdpReceiver]:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
        if family == socket.AF_INET:
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.bind((host, port))
        receiver = UdpReceiver(opened, reply)
        loop.add_reader(opened, receiver.receive)
        try:
            yield receiver
        finally:
            loop.remove_reader(opened)


def silent(_: bytes) -> list[bytes]:
    return []


def taking(raw: bytes) -> list[bytes]:
    message = messages.decode(raw)
    assert isinstance(message, messages.Sent)
    return [messages.encode(messages.Taken(messages.digest(message.signed)))]
