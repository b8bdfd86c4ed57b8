"""To the address itself by HTTPS, and by HTTP: POST `PATH`. Nothing is followed, resolved or decompressed, no proxy is
asked, and no more of an answer is read than says something.

TLS to a bare address proves nothing, and no certificate is asked for: what is sent proves itself by its signature, and
is sealed where the receiver has a key for that. It keeps off those who only listen.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.answers import Answer, OptOutHeard, of_error
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.sizes import most
from jfe_cni.overflowd.notices import messages, optout
from jfe_cni.overflowd.notices.keys import PUBLISHED

PATH = "/.well-known/overflowd/notices"
CONTENT_TYPE = "application/jose"
"""RFC 7515, section 9.2.1; of a JWE too."""

_CONNECT_SECONDS = 3.0
"""`sizes.SYNS`: who answers none of them is not there."""

_SECONDS = 8.0
_LARGEST_ANSWER = optout.LARGEST_SIGNED
_LARGEST_KEYS = 16_384
"""Bytes of a JWK set: a hundred keys."""

# RFC 9110, section 15.
_FORBIDDEN, _GONE, _TOO_MANY = 403, 410, 429


@dataclass(frozen=True)
class Ports:
    https: int = 443
    http: int = 80


class HttpWay:
    """Made by `open_http`."""

    def __init__(self, session: aiohttp.ClientSession, ports: Ports) -> None:
        self._session = session
        self._ports = ports

    async def tell(self, way: Way, address: Address, payload: bytes) -> Answer:
        """`payload`: a signed notice, or a sealed one."""
        octets = most(way, address, 0, len(payload), asks_key=False)
        try:
            async with self._session.post(
                self._url(way, address, PATH),
                data=payload,
                headers={"Content-Type": CONTENT_TYPE},
                allow_redirects=False,
            ) as response:
                body = await _bounded(response, _LARGEST_ANSWER)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Answer(_why(error), octets)
        return _understood(response.status, body, messages.digest(payload), octets)

    async def published(self, way: Way, address: Address) -> object:
        """What it publishes as its keys (`keys.PUBLISHED`), of which nothing is proven; None: nothing that is JSON.
        `Told`: it has not answered."""
        try:
            async with self._session.get(self._url(way, address, PUBLISHED), allow_redirects=False) as response:
                body = await _bounded(response, _LARGEST_KEYS) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            return _why(error)
        try:
            return None if body is None else json.loads(body)
        except (ValueError, RecursionError):
            return None

    def _url(self, way: Way, address: Address, path: str) -> str:
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{way}://{host}:{self._ports.https if way is Way.HTTPS else self._ports.http}{path}"


@contextlib.asynccontextmanager
async def open_http(ports: Ports | None = None) -> AsyncIterator[HttpWay]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession(
        # A connection of its own for each notice: nothing of it is kept.
        connector=aiohttp.TCPConnector(ssl=context, force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=_SECONDS, sock_connect=_CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "overflowd", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield HttpWay(session, ports or Ports())


async def _bounded(response: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    """None: it is longer."""
    read = b""
    while len(read) <= most_bytes:
        more = await response.content.read(most_bytes + 1 - len(read))
        if not more:
            return read
        read += more
    # Not read to its end: who sends without end is hung up on.
    response.close()
    return None


def _understood(status: int, body: bytes | None, digest: str, octets: int) -> Answer:
    if 200 <= status < 300:
        return Answer(Told.TAKEN, octets)
    if status == _TOO_MANY:
        return Answer(Told.NOT_NOW, octets)
    if status in {_FORBIDDEN, _GONE} and body is not None:
        wish = optout.asked(body.strip(), digest)
        if isinstance(wish, optout.OptOutAsked):
            return Answer(Told.OPTED_OUT, octets, OptOutHeard(wish, body.strip()))
    return Answer(Told.REFUSED, octets)


def _why(error: aiohttp.ClientError | TimeoutError) -> Told:
    if isinstance(error, aiohttp.ClientConnectorError):
        # It speaks, and no TLS that we do.
        return Told.REFUSED if isinstance(error.os_error, ssl.SSLError) else of_error(error.os_error)
    if isinstance(error, aiohttp.ClientResponseError):
        return Told.REFUSED
    return Told.NO_ANSWER
