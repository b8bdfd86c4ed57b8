"""Fetches what keys a domain publishes, and is nobody's weapon: by HTTPS from a domain's name, whose addresses are
nobody's own network, to the very address that was looked at (no DNS rebinding), through no redirect, within bounds of
size, time and number. A domain that had no keys is not asked again for a while.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.receiver.limits import Buckets, Limit
from jfe_cni.overflowd.receiver.pins import Keys, Publisher, read_published

LARGEST = 16_384
"""Bytes of a set of keys, whoever asks for it."""

_HOUR: Microseconds = 3_600 * 1_000_000
OF_A_DOMAIN = Limit(6, _HOUR)
IN_ALL = Limit(60, 60 * 1_000_000)
NEGATIVE: Microseconds = 10 * 60 * 1_000_000
"""For so long a domain is not asked again (the SOA's usual minimum is more; a reporter that just starts waits less)."""

_MOST_DOMAINS = 4_096
_AT_ONCE = 16
# Seconds, for all of it: resolving, TLS, and the answer.
_PATIENCE = 5.0


class Unfetched(StrEnum):
    """Why there are no keys."""

    ASKED_BEFORE = "asked-before"
    """In vain, a short while ago."""

    TOO_OFTEN = "too-often"
    TOO_LARGE = "too-large"
    """Larger than what came from whoever wants it fetched."""

    NO_ADDRESS = "no-address"
    FORBIDDEN_ADDRESS = "forbidden-address"
    """One of its addresses is private, or otherwise none of the Internet's."""

    UNREACHABLE = "unreachable"
    """No connection, no TLS, no certificate of that domain, or no answer in time."""

    REDIRECTED = "redirected"
    REFUSED = "refused"
    """Another status than 200."""

    NO_KEYS = "no-keys"


Resolve = Callable[[str], Awaitable[Sequence[Address]]]


@dataclass(frozen=True)
class Fetched:
    """`count`: bytes of the answer that were read. `keys`: or why there are none."""

    keys: Keys | Unfetched
    count: int


async def resolve(domain: str) -> Sequence[Address]:
    """By this host's resolver. Raises OSError: it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(domain, None, type=socket.SOCK_STREAM)
    # A zone stands behind link-local addresses alone: they are refused with it or without.
    return [ip_address(str(each[4][0]).partition("%")[0]) for each in found]


class KeyFetcher:
    """`policy`: which addresses may be asked. `trusted`: TLS's roots. For one event loop. Who asks for a domain that is
    being asked already waits for the same answer."""

    def __init__(
        self, policy: Policy, clock: Callable[[], Microseconds], trusted: ssl.SSLContext, resolving: Resolve = resolve
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._trusted = trusted
        self._resolve = resolving
        self._of_domain = Buckets[str](OF_A_DOMAIN, _MOST_DOMAINS)
        self._in_all = Buckets[None](IN_ALL, 1)
        self._in_vain: OrderedDict[str, Microseconds] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Fetched]] = {}

    async def fetch(self, of: Publisher, most: int) -> Fetched:
        """`most`: bytes that may be read for it."""
        running = self._under_way.get(of.domain)
        if running is not None:
            return Fetched((await asyncio.shield(running)).keys, 0)
        refusal = self._refusal(of.domain)
        if refusal is not None:
            return Fetched(refusal, 0)
        task = asyncio.create_task(self._fetch(of, min(most, LARGEST)))
        self._under_way[of.domain] = task
        try:
            fetched = await asyncio.shield(task)
        finally:
            if task.done():
                del self._under_way[of.domain]
            else:
                task.add_done_callback(lambda _: self._under_way.pop(of.domain, None))
        # Who sends little is no reason not to ask for whoever sends more.
        if isinstance(fetched.keys, Unfetched) and fetched.keys is not Unfetched.TOO_LARGE:
            self._remember_in_vain(of.domain)
        return fetched

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refusal(self, domain: str) -> Unfetched | None:
        now = self._clock()
        if self._in_vain.get(domain, 0) > now:
            return Unfetched.ASKED_BEFORE
        free = len(self._under_way) < _AT_ONCE and self._of_domain.has(domain, now) and self._in_all.take(None, now)
        return None if free and self._of_domain.take(domain, now) else Unfetched.TOO_OFTEN

    def _remember_in_vain(self, domain: str) -> None:
        self._in_vain[domain] = self._clock() + NEGATIVE
        self._in_vain.move_to_end(domain)
        if len(self._in_vain) > _MOST_DOMAINS:
            self._in_vain.popitem(last=False)

    async def _fetch(self, of: Publisher, most: int) -> Fetched:
        try:
            async with asyncio.timeout(_PATIENCE):
                addresses = await self._addresses(of.domain)
                return (
                    Fetched(addresses, 0) if isinstance(addresses, Unfetched) else await self._get(of, addresses, most)
                )
        except (TimeoutError, aiohttp.ClientError, ssl.SSLError, OSError, ValueError):
            # aiohttp raises ValueError for some of what a server may answer.
            return Fetched(Unfetched.UNREACHABLE, 0)

    async def _addresses(self, domain: str) -> Sequence[Address] | Unfetched:
        try:
            addresses = await self._resolve(domain)
        except (OSError, UnicodeError):
            return Unfetched.NO_ADDRESS
        if not addresses:
            return Unfetched.NO_ADDRESS
        # All of them: a name that is half ours is not the Internet's.
        if any(self._policy.withheld(each) is not None for each in addresses):
            return Unfetched.FORBIDDEN_ADDRESS
        return addresses

    async def _get(self, of: Publisher, addresses: Sequence[Address], most: int) -> Fetched:
        connector = aiohttp.TCPConnector(
            resolver=_Looked(addresses), use_dns_cache=False, ssl=self._trusted, force_close=True, limit=1
        )
        async with (
            aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False) as session,
            session.get(of.url, allow_redirects=False, headers={"accept-encoding": "identity"}) as answer,
        ):
            if 300 <= answer.status < 400:
                return Fetched(Unfetched.REDIRECTED, 0)
            if answer.status != 200:
                return Fetched(Unfetched.REFUSED, 0)
            if (answer.content_length or 0) > most:
                return Fetched(Unfetched.TOO_LARGE, 0)
            body = bytearray()
            while len(body) <= most and (piece := await answer.content.read(most + 1 - len(body))):
                body += piece
            if len(body) > most:
                return Fetched(Unfetched.TOO_LARGE, most)
            return Fetched(read_published(bytes(body)) or Unfetched.NO_KEYS, len(body))


class _Looked(AbstractResolver):
    """Answers with the addresses that were looked at, whatever the name has become meanwhile."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(each),
                port=port,
                family=socket.AF_INET if each.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for each in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def trusted_roots(path: str = "") -> ssl.SSLContext:
    """`path`: a PEM file in the place of the host's roots. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=path or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
