"""Fetches what keys a domain publishes, and is nobody's weapon: by HTTPS from a domain's name, whose addresses are
nobody's own network, to the very address that was looked at (no DNS rebinding), through no redirect, within bounds of
size, time and number. A domain that had no keys is not asked again for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from itertools import zip_longest

import h11

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.receiver import https_get
from jfe_cni.overflowd.receiver.https_get import Reading, TooLarge
from jfe_cni.overflowd.receiver.limits import Buckets, Limit
from jfe_cni.overflowd.receiver.pins import Keys, Publisher, read_published

LARGEST = 16_384
"""Bytes of an answer with keys, its header with it, whoever asks for it."""

_HOUR: Microseconds = 3_600 * 1_000_000
OF_A_DOMAIN = Limit(6, _HOUR)
IN_ALL = Limit(60, 60 * 1_000_000)
NEGATIVE: Microseconds = 10 * 60 * 1_000_000
"""For so long a domain is not asked again (the SOA's usual minimum is more; a reporter that just starts waits less)."""

_MOST_DOMAINS = 4_096
_AT_ONCE = 16
_OF_A_KIND = 2
# Seconds, for all of it: resolving, TLS, and the answer.
_PATIENCE = 5.0


class Unfetched(StrEnum):
    """Why there are no keys."""

    ASKED_BEFORE = "asked-before"
    """In vain, a short while ago."""

    TOO_OFTEN = "too-often"
    TOO_MANY = "too-many"
    """For whoever wants it fetched."""

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
Pay = Callable[[int], int | Unfetched]
"""Asked when a fetch would begin: given the bytes that it takes at least, those that may be read for it, all of which
are drawn; or why none are, and none is."""


@dataclass(frozen=True)
class Fetched:
    """`keys`: or why there are none. `count`: bytes of the answer that were read. `left`: of those that were drawn."""

    keys: Keys | Unfetched
    count: int = 0
    left: int = 0


async def resolve(domain: str) -> Sequence[Address]:
    """By this host's resolver, from the root: in /etc/hosts it ends with a dot. Raises OSError: it has none. In a
    thread of its own that nobody waits for at the end: a DNS server that does not answer holds it for as long as
    /etc/resolv.conf says, whoever has lost patience."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[Address]] = loop.create_future()

    def settle(found: Sequence[Address] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: Sequence[Address] | Exception
        try:
            # Or a name below a search domain of /etc/resolv.conf would do: a cluster, say, answers there.
            told = socket.getaddrinfo(domain + ".", None, type=socket.SOCK_STREAM)
            # A zone stands behind link-local addresses alone: they are refused with it or without.
            found = [ip_address(str(each[4][0]).partition("%")[0]) for each in told]
        except (OSError, UnicodeError) as error:
            found = error
        # The loop may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name="overflowd-resolves", daemon=True).start()
    return await answer


class KeyFetcher:
    """`policy`: which addresses may be asked. `monotonic`: a clock that is never set. `trusted`: TLS's roots. For one
    event loop. Who asks for a domain that is being asked already waits for the same answer."""

    def __init__(
        self,
        policy: Policy,
        monotonic: Callable[[], Microseconds],
        trusted: ssl.SSLContext,
        resolving: Resolve = resolve,
    ) -> None:
        self._policy = policy
        self._monotonic = monotonic
        self._trusted = trusted
        self._resolve = resolving
        self._of_domain = Buckets[str](OF_A_DOMAIN, _MOST_DOMAINS)
        self._in_all = Buckets[None](IN_ALL, 1)
        self._in_vain = _Remembered()
        # Bytes that a domain's keys take at least: asked for with fewer, it would be in vain again.
        self._least = _Remembered()
        self._under_way: dict[str, asyncio.Task[Fetched]] = {}
        # Resolvers that are not back, though nobody waits for them any more.
        self._late: set[asyncio.Task[Sequence[Address]]] = set()

    async def fetch(self, of: Publisher, pay: Pay) -> Fetched:
        while (other := self._under_way.get(of.domain)) is not None:
            fetched = await asyncio.shield(other)
            # With what another had sent: it may be enough with ours.
            if fetched.keys is not Unfetched.TOO_LARGE:
                return Fetched(fetched.keys)
        most = self._begun(of.domain, pay)
        if isinstance(most, Unfetched):
            return Fetched(most)
        task = asyncio.create_task(self._fetch(of, most))
        self._under_way[of.domain] = task
        # Before whoever waits for it goes on.
        task.add_done_callback(lambda _: self._under_way.pop(of.domain, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """What is under way has no answer; no thread is waited for."""
        for tasks in (self._under_way.values(), self._late):
            # A fetch that is ended while its name is looked up leaves that behind, late.
            ending = list(tasks)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    def _begun(self, domain: str, pay: Pay) -> int | Unfetched:
        """Nothing is taken from any limit unless all of them have something."""
        now = self._monotonic()
        if self._in_vain.get(domain) > now:
            return Unfetched.ASKED_BEFORE
        if len(self._under_way) + len(self._late) >= _AT_ONCE:
            return Unfetched.TOO_OFTEN
        if not (self._of_domain.has(domain, now) and self._in_all.has(None, now)):
            return Unfetched.TOO_OFTEN
        most = pay(self._least.get(domain))
        if not isinstance(most, Unfetched):
            self._of_domain.take(domain, now)
            self._in_all.take(None, now)
        return most

    async def _fetch(self, of: Publisher, drawn: int) -> Fetched:
        reading = Reading(min(drawn, LARGEST))
        try:
            async with asyncio.timeout(_PATIENCE):
                keys = await self._read(of, reading)
        except (OSError, ValueError, h11.RemoteProtocolError):
            keys = Unfetched.UNREACHABLE
        if not isinstance(keys, Unfetched):
            self._least.put(of.domain, 0)
        elif keys is not Unfetched.TOO_LARGE:
            self._in_vain.put(of.domain, self._monotonic() + NEGATIVE)
        return Fetched(keys, reading.count, drawn - reading.count)

    async def _read(self, of: Publisher, reading: Reading) -> Keys | Unfetched:
        addresses = await self._addresses(of.domain)
        if isinstance(addresses, Unfetched):
            return addresses
        got = await https_get.get(of.domain, of.port, PUBLISHED, addresses, self._trusted, reading)
        if isinstance(got, TooLarge):
            # Where it does not tell: twice as much as was not enough, so that it is found in a few tries.
            least = got.size or 2 * reading.most
            # Who sends little is no reason not to ask for whoever sends more, unless that would be in vain as well.
            if reading.most >= LARGEST or got.size > LARGEST:
                self._in_vain.put(of.domain, self._monotonic() + NEGATIVE)
            self._least.put(of.domain, min(least, LARGEST))
            return Unfetched.TOO_LARGE
        if got.status != 200:
            return Unfetched.REDIRECTED if 300 <= got.status < 400 else Unfetched.REFUSED
        return read_published(got.content) or Unfetched.NO_KEYS

    async def _addresses(self, domain: str) -> Sequence[Address] | Unfetched:
        asking = asyncio.ensure_future(self._resolve(domain))
        try:
            addresses = await asyncio.shield(asking)
        except (OSError, UnicodeError):
            return Unfetched.NO_ADDRESS
        finally:
            if not asking.done():
                self._late.add(asking)
                asking.add_done_callback(self._back)
        if not addresses:
            return Unfetched.NO_ADDRESS
        # All of them: a name that is half ours is not the Internet's.
        if any(self._policy.withheld(each) is not None for each in addresses):
            return Unfetched.FORBIDDEN_ADDRESS
        return few(addresses)

    def _back(self, asking: asyncio.Task[Sequence[Address]]) -> None:
        self._late.discard(asking)
        if not asking.cancelled():
            # Whatever it was: nobody wants to know any more.
            asking.exception()


class _Remembered:
    """A number of each domain, 0 where there is none: of the `_MOST_DOMAINS` that were told of last."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, int] = OrderedDict()

    def get(self, domain: str) -> int:
        return self._of.get(domain, 0)

    def put(self, domain: str, number: int) -> None:
        self._of[domain] = number
        self._of.move_to_end(domain)
        if len(self._of) > _MOST_DOMAINS:
            self._of.popitem(last=False)


def few(addresses: Sequence[Address]) -> Sequence[Address]:
    """Those that are tried, in order: the first two of each kind, by turns, and that kind first that was first. A name
    of hundreds would have hundreds asked."""
    kinds = [[each for each in addresses if each.version == version][:_OF_A_KIND] for version in (4, 6)]
    if addresses[0].version == 6:
        kinds.reverse()
    return [each for turn in zip_longest(*kinds) for each in turn if each is not None]


def trusted_roots(path: str = "") -> ssl.SSLContext:
    """`path`: a PEM file in the place of the host's roots. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=path or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
