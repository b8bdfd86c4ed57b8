"""One datagram to 65535/udp, and what comes back: an answer of the receiver, or the ICMP that says that there is none.

Each notice has a socket of its own, connected: the kernel hands over what comes from the address and port that it was
sent to, and nothing else (udp(7)). A stranger would have to guess the digest of what it has not seen. An ICMP anybody
may send who guesses the port, from anywhere: it is a hint (RFC 5927, section 4), and who answers nevertheless is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.answers import Answer, OptOutHeard, of_error, of_icmp
from jfe_cni.overflowd.delivery.destinations import UDP_PORT
from jfe_cni.overflowd.delivery.outcomes import Told
from jfe_cni.overflowd.delivery.sizes import UDP_TRIES, datagram
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.optout import OptOutAsked, asked

WAITS = (1.0, 2.0)
"""Seconds after each try (RFC 8085, section 3.1.1: a second where nothing is known of the path, then twice as long)."""

_MOST_ANSWERS = 16
"""Looked at, for one notice: who floods the socket is not listened to for longer."""

# linux/in.h, linux/in6.h, linux/errqueue.h; Python has no names for them.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
# struct sock_extended_err: errno, origin, type, code, padding, info, data; the sender of the ICMP follows.
_EXTENDED = struct.Struct("=IBBBBII")


@dataclass
class _Exchange:
    """With one address, about one notice."""

    socket: socket.socket
    address: Address
    payload: bytes
    octets: int = 0
    answers: int = 0
    echoed: bool = field(default=False)
    hint: Told | None = None

    @property
    def digest(self) -> str:
        return messages.digest(self.payload)


class UdpWay:
    """`port`: of the receivers. `waits`: seconds after each try."""

    def __init__(self, port: int = UDP_PORT, waits: Sequence[float] = WAITS) -> None:
        assert len(waits) == UDP_TRIES
        self._port = port
        self._waits = waits

    async def tell(self, address: Address, payload: bytes) -> Answer:
        """`payload`: a signed notice, or a sealed one."""
        if len(payload) > messages.LARGEST_MESSAGE - 128:
            return Answer(Told.TOO_LARGE)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with socket.socket(family, kind) as opened:
            if address.version == 6:
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            try:
                opened.connect((str(address), self._port))
            except OSError as error:
                return Answer(of_error(error))
            exchange = _Exchange(opened, address, payload)
            answer = await self._converse(exchange)
            return Answer(answer.told, exchange.octets, answer.opt_out)

    async def _converse(self, exchange: _Exchange) -> Answer:
        for wait in self._waits:
            if not exchange.echoed and (told := _send(exchange, exchange.payload)) is not None:
                return Answer(told)
            if (answer := await self._listen(exchange, wait)) is not None:
                return answer
            if exchange.hint is not None and not exchange.answers:
                return Answer(exchange.hint)
        return Answer(Told.NO_ANSWER)

    async def _listen(self, exchange: _Exchange, seconds: float) -> Answer | None:
        """None: nothing came that says anything."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while exchange.answers < _MOST_ANSWERS:
            # Whatever comes, and however fast.
            if loop.time() >= until:
                return None
            try:
                async with asyncio.timeout_at(until):
                    raw = await loop.sock_recv(exchange.socket, messages.LARGEST_MESSAGE + 1)
            except TimeoutError:
                return None
            except OSError as error:
                _heed(exchange, error)
                # It was told without waiting, and a spray of ICMP would let nobody else have a turn.
                await asyncio.sleep(0)
                continue
            exchange.answers += 1
            if (answer := _understood(exchange, raw)) is not None:
                return answer
        return Answer(Told.NO_ANSWER)


def _understood(exchange: _Exchange, raw: bytes) -> Answer | None:
    match messages.decode(raw):
        case messages.Taken(digest) if digest == exchange.digest:
            return Answer(Told.TAKEN)
        case messages.OptOut(digest, signed) if digest == exchange.digest:
            wish = asked(signed, digest)
            if isinstance(wish, OptOutAsked):
                return Answer(Told.OPTED_OUT, opt_out=OptOutHeard(wish, signed))
        case messages.Challenge(cookie) if not exchange.echoed:
            exchange.echoed = True
            told = _send(exchange, messages.encode(messages.Sent(exchange.payload, cookie)))
            return None if told is None else Answer(told)
    return None


def _send(exchange: _Exchange, raw: bytes) -> Told | None:
    """None: it is on its way."""
    for _ in range(_MOST_ANSWERS):
        try:
            exchange.socket.send(raw)
        except OSError as error:
            # An error of before is told to who sends next; what was to be sent was not. Where something has left, it is
            # of what came meanwhile.
            if not _heed(exchange, error) and not exchange.octets:
                return of_error(error)
        else:
            exchange.octets += datagram(len(raw), exchange.address)
            return None
    return Told.NO_ANSWER


def _heed(exchange: _Exchange, error: OSError) -> bool:
    """Whether the network has said it. What it says is a hint."""
    found: Told | None = None
    heard = False
    with contextlib.suppress(BlockingIOError):
        # Until there is none left: the socket is readable as long as there is one.
        while True:
            _, controls, _, _ = exchange.socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            for _level, _kind, data in controls:
                if len(data) < _EXTENDED.size:
                    continue
                heard = True
                _, origin, kind, code, _, _, _ = _EXTENDED.unpack_from(data)
                if origin in {_ORIGIN_ICMP, _ORIGIN_ICMP6}:
                    found = found or of_icmp(kind, code, exchange.address.version)
    # A path that is narrower than was known is no reason: the next try is cut to fit.
    exchange.hint = exchange.hint or found
    return heard
