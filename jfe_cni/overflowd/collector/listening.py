"""Where a collector listens: how it is written, and what is in each other's way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ipaddress import ip_address

from jfe_cni.errors import RequestError

_ALL, _ALL_OF_IPV4 = ip_address("::"), ip_address("0.0.0.0")


def listen_address(text: str) -> tuple[str, int]:
    """`:2055`, `192.0.2.1:2055`, `[2001:db8::1]:2055`. Raises RequestError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "::"
    try:
        if not colon or not (port.isascii() and port.isdigit()) or int(port) >= 1 << 16:
            raise ValueError
        ip_address(host)
    except ValueError as error:
        raise RequestError(f"{text!r} is nothing to listen on", "write ADDRESS:PORT, or :PORT") from error
    return host, int(port)


def check_apart(texts: Sequence[str]) -> None:
    """Raises RequestError: two would take the same datagrams."""
    for one, other in itertools.combinations(texts, 2):
        (host, port), (other_host, other_port) = listen_address(one), listen_address(other)
        if port == other_port != 0 and _meet(host, other_host):
            raise RequestError(f"{one} and {other} are in each other's way", "name one of them: it takes all formats")


def _meet(one: str, other: str) -> bool:
    both = {ip_address(one), ip_address(other)}
    return len(both) == 1 or _ALL in both or (_ALL_OF_IPV4 in both and {each.version for each in both} == {4})
