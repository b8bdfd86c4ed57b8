"""Receivers that do as they are told, on real sockets: what they got, and what they answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import cast

from jfe_cni.overflowd.notices import messages

Reply = Callable[[bytes], Iterable[bytes]]


class UdpReceiver(asyncio.DatagramProtocol):
    """`reply`: what goes back for a datagram."""

    def __init__(self, reply: Reply) -> None:
        self.got: list[bytes] = []
        self.senders: list[tuple[str, int]] = []
        self.came = asyncio.Event()
        self.closed = asyncio.Event()
        self._reply = reply
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def connection_lost(self, exc: Exception | None) -> None:
        # The transport closes its socket when this returns.
        asyncio.get_running_loop().call_soon(self.closed.set)

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(data, to)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append(data)
        self.senders.append(addr)
        self.came.set()
        for each in self._reply(data):
            self.send(each, addr)


@contextlib.asynccontextmanager
async def udp_receiver(reply: Reply, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[UdpReceiver]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: UdpReceiver(reply), local_addr=(host, port))
    try:
        yield protocol
    finally:
        transport.close()
        await protocol.closed.wait()


def silent(_: bytes) -> list[bytes]:
    return []


def taking(raw: bytes) -> list[bytes]:
    message = messages.decode(raw)
    assert isinstance(message, messages.Sent)
    return [messages.encode(messages.Taken(messages.digest(message.signed)))]
