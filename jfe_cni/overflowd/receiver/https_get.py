"""One answer by HTTPS, from a server that would like to send more, or to have another asked: from given addresses
alone, with a certificate of that name, every byte of it counted, and none read that may not be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from jfe_cni.overflowd.datagrams import Address

# Bytes of one call, and of the buffers before it: what is not wanted stays with who sends it.
_PIECE = 2_048
_BUFFER = 16_384
# Seconds that one address of several has to accept a connection.
_CONNECTING = 1.0
_HTTPS = 443


@dataclass
class Reading:
    """`most`: bytes that may be read, of header, content and what is between. `count`: that were, whatever came of
    it."""

    most: int
    count: int = 0


@dataclass(frozen=True)
class Answer:
    """`content`: of a status of 200 alone."""

    status: int
    content: bytes


@dataclass(frozen=True)
class TooLarge:
    """`size`: bytes that would have to be read, 0 where it does not tell."""

    size: int


async def get(
    domain: str, port: int, path: str, addresses: Sequence[Address], trusted: ssl.SSLContext, reading: Reading
) -> Answer | TooLarge:
    """Raises OSError, h11.RemoteProtocolError. To be given a timeout."""
    reader, writer = await _connected(domain, port, addresses, trusted)
    try:
        parser = h11.Connection(h11.CLIENT)
        named = domain if port == _HTTPS else f"{domain}:{port}"
        fields = [
            ("host", named),
            ("accept-encoding", "identity"),
            ("connection", "close"),
            ("user-agent", "overflowd"),
        ]
        request = parser.send(h11.Request(method="GET", target=path, headers=fields))
        writer.write((request or b"") + (parser.send(h11.EndOfMessage()) or b""))
        return await _read(parser, reader, reading)
    finally:
        # Whatever it has to say still: a farewell in order would wait for it.
        writer.transport.abort()


async def _read(parser: h11.Connection, reader: asyncio.StreamReader, reading: Reading) -> Answer | TooLarge:
    content = bytearray()
    while True:
        match parser.next_event():
            case h11.NEED_DATA:
                left = reading.most - reading.count
                if left <= 0:
                    return TooLarge(0)
                piece = await reader.read(min(left, _PIECE))
                reading.count += len(piece)
                parser.receive_data(piece)
            case h11.Response(status_code=200, headers=fields):
                # h11 has refused what is no number.
                length = next((int(value) for name, value in fields if name == b"content-length"), 0)
                size = reading.count - len(parser.trailing_data[0]) + length
                if size > reading.most:
                    return TooLarge(size)
            case h11.Response(status_code=status):
                return Answer(status, b"")
            case h11.Data(data=piece):
                content += piece
            case h11.EndOfMessage():
                return Answer(200, bytes(content))
            case h11.InformationalResponse():
                continue
            case _:
                raise ConnectionResetError("it ended before its answer did")


async def _connected(
    domain: str, port: int, addresses: Sequence[Address], trusted: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first that accepts. TLS is tried with that one alone."""
    loop = asyncio.get_running_loop()
    failure = OSError("no address")
    for address in addresses:
        with contextlib.ExitStack() as stack:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            opened = stack.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            # Before the connection: TCP announces its window then (tcp(7)).
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            try:
                async with asyncio.timeout(_CONNECTING):
                    await loop.sock_connect(opened, (str(address), port))
            except OSError as error:
                failure = error
                continue
            reader, writer = await asyncio.open_connection(
                sock=opened, ssl=trusted, server_hostname=domain, limit=_PIECE
            )
            # asyncio's own is 256 KiB.
            writer.transport.set_read_buffer_limits(_BUFFER)  # type: ignore[attr-defined]
            stack.pop_all()
            return reader, writer
    raise failure
