"""Whom to write to about an address: the abuse contact that its registry names, by RDAP (RFC 9082, 9083)."""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.destinations import Network
from jfe_cni.overflowd.notices.optout import WIDEST

_LARGEST = 262_144
"""Bytes of an answer: registries' own are a tenth of it."""

_SECONDS = 10.0
_MOST_REDIRECTS = 2
"""RFC 7480, section 5.2: a registry may name the one that has it now."""

KEPT_SECONDS = 86_400.0
FAILURE_KEPT_SECONDS = 300.0
"""Of a registry that says nothing of the address, for now."""

_NOT_FOUND = 404
"""RFC 7480, section 5.3: it knows nobody."""

_MOST_KEPT = 4_096
_DEEPEST = 4
# RFC 5321, section 4.5.3.1, without quoted strings: no desk has one, and nothing in it can end a line.
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")


@dataclass(frozen=True)
class _Failed:
    """It has not said whether there is a contact."""


@dataclass(frozen=True)
class Bootstrap:
    """Which service knows of which network (RFC 9224): the most specific first."""

    services: tuple[tuple[Network, str], ...]

    def service(self, address: Address) -> str | None:
        """The base URL, which ends in a slash."""
        of = (url for network, url in self.services if network.version == address.version and address in network)
        return next(of, None)


def read_bootstrap(paths: Sequence[Path]) -> Bootstrap:
    """IANA's `ipv4.json` and `ipv6.json` (data.iana.org/rdap). Raises RequestError."""
    found: list[tuple[Network, str]] = []
    for path in paths:
        try:
            found += _services(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path} is no bootstrap file of RDAP", "take IANA's ipv4.json and ipv6.json") from error
    return Bootstrap(tuple(sorted(found, key=lambda each: -each[0].prefixlen)))


def _services(document: Mapping[str, Any]) -> Iterator[tuple[Network, str]]:
    for networks, urls in document["services"]:
        # RFC 9224, section 3: https where there is a choice.
        url = next((each for each in urls if each.startswith("https://")), urls[0])
        for network in networks:
            yield ip_network(network), url.rstrip("/") + "/"


def abuse_contact(document: object) -> str | None:
    """The first mail address of an entity whose role is abuse (RFC 9083, section 10.2.4), of what anybody may have
    written."""
    return next(_contacts(document, _DEEPEST), None)


def _contacts(document: object, depth: int) -> Iterator[str]:
    entities = document.get("entities") if isinstance(document, dict) else None
    for entity in entities if isinstance(entities, list) and depth else ():
        if not isinstance(entity, dict):
            continue
        roles = entity.get("roles")
        if isinstance(roles, list) and "abuse" in roles:
            yield from _mails(entity.get("vcardArray"))
        yield from _contacts(entity, depth - 1)


def _mails(card: object) -> Iterator[str]:
    """Of a jCard (RFC 7095): ["vcard", [[name, parameters, type, value], …]]."""
    match card:
        case ["vcard", [*properties]]:
            for each in properties:
                match each:
                    case ["email", _, _, str(mail), *_] if _MAIL.fullmatch(mail):
                        yield mail


class Rdap:
    """`session`: follows no proxy of the environment. `clock`: seconds. What one address's network is told is told for
    all of it (`optout.WIDEST`), so that a registry is asked once for many."""

    def __init__(
        self, session: aiohttp.ClientSession, bootstrap: Bootstrap, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._bootstrap = bootstrap
        self._clock = clock
        self._known: OrderedDict[Network, tuple[float, str | None]] = OrderedDict()

    async def contact(self, address: Address) -> str | None:
        """None: there is none that is known."""
        network = ip_network((address, WIDEST[address.version]), strict=False)
        found = self._known.get(network)
        if found is None or found[0] <= self._clock():
            asked = await self._ask(address)
            if isinstance(asked, _Failed):
                found = (self._clock() + FAILURE_KEPT_SECONDS, None)
            else:
                found = (self._clock() + KEPT_SECONDS, asked)
            self._known[network] = found
            self._known.move_to_end(network)
            while len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return found[1]

    async def _ask(self, address: Address) -> str | _Failed | None:
        base = self._bootstrap.service(address)
        if base is None:
            return None
        try:
            async with self._session.get(
                f"{base}ip/{address}",
                headers={"Accept": "application/rdap+json", "Accept-Encoding": "identity"},
                max_redirects=_MOST_REDIRECTS,
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
            ) as response:
                if response.status != 200:
                    return None if response.status == _NOT_FOUND else _Failed()
                raw = b""
                while len(raw) <= _LARGEST and (more := await response.content.read(_LARGEST + 1 - len(raw))):
                    raw += more
                if len(raw) > _LARGEST:
                    response.close()
                    return _Failed()
            return abuse_contact(json.loads(raw))
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError):
            return _Failed()
