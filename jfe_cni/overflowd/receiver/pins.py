"""Which keys are believed of whom. Pure.

The rule: a reporter is the domain that publishes its keys. What it publishes when it is first heard of is believed
(trust on first use), and stays so. Keys that it publishes later are believed if one that was believed before is
published beside them: that is how keys are rotated (`notices.keys.OVERLAP`), and those that are not published then are
no longer believed. If none is, it may be another who holds the domain now: nothing is taken by those keys; it is
counted, shown, logged and told, and the former stay as they are, until a person says that the change is right
(`--repin DOMAIN`).

What it publishes is asked for when a notice comes by a key that is not known, and looked at again within a day of the
last look, or when it is next heard of, where that is later (`refreshing.py`): for so long a key that was stolen and
withdrawn is believed, if another that is believed is still published; and for as long as the domain can't be reached.

There is always room for another reporter: the one that was heard of longest ago goes, of whoever has most names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.keys import MOST_PUBLISHED, PUBLISHED
from jfe_cni.overflowd.receiver.domains import registrable

MOST_REPORTERS = 1_024
MOST_OF_ONE = 16
"""Reporters that are names below one domain that was registered."""

MOST_KEYS = MOST_PUBLISHED
"""Of one domain: one that signs and some former ones."""

_LONGEST_DOMAIN = 253  # RFC 1035, section 2.3.4
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
HTTPS = 443

Keys = Mapping[str, OKPKey]
"""Public ones, by thumbprint (RFC 7638)."""


class Pinning(StrEnum):
    """What became of the keys that a domain publishes."""

    FIRST = "first"
    SAME = "same"
    ROTATED = "rotated"
    CHANGED = "changed"
    """None of those that were believed is among them: they are not believed."""


@dataclass(frozen=True)
class Publisher:
    """Where a reporter's keys are, and who it is: the domain."""

    domain: str
    port: int = HTTPS

    @property
    def url(self) -> str:
        return f"https://{self.domain}:{self.port}{PUBLISHED}"


def pinning(pinned: Keys, published: Keys) -> Pinning:
    """`published`: not empty."""
    if not pinned:
        return Pinning.FIRST
    if pinned.keys() == published.keys():
        return Pinning.SAME
    return Pinning.ROTATED if pinned.keys() & published.keys() else Pinning.CHANGED


def crowded_out(domain: str, used: Mapping[str, Microseconds], most: int = MOST_REPORTERS) -> frozenset[str]:
    """Who must go, so that there is room for that one. `used`: when those who are there were heard of last."""
    if domain in used:
        return frozenset()
    names = {each: registrable(each) for each in used}
    counts, going = Counter(names.values()), set[str]()

    def drop(of: set[str]) -> None:
        leaves = min((each for each in names if names[each] in of), key=lambda each: (used[each], each))
        going.add(leaves)
        counts[names.pop(leaves)] -= 1

    while counts[registrable(domain)] >= MOST_OF_ONE:
        drop({registrable(domain)})
    while len(names) >= most:
        largest = max(counts.values())
        drop({each for each, count in counts.items() if count == largest})
    return frozenset(going)


def publisher(url: str, ports: frozenset[int] = frozenset({HTTPS})) -> Publisher | None:
    """None: it is not the well-known place, by https, of a domain's name. With any other place a notice could have us
    ask anything of anybody."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or HTTPS
    except ValueError:
        return None
    plain = parts.scheme == "https" and parts.path == PUBLISHED and not (parts.query or parts.fragment)
    if not plain or "@" in parts.netloc or port not in ports or not _is_domain(host):
        return None
    return Publisher(host, port)


def _is_domain(host: str) -> bool:
    """Of two labels at least, in ASCII (RFC 5890, A-labels); the last is no number, or it would be an address
    (URL Standard, "ends in a number")."""
    labels = host.split(".")
    fit = all(0 < len(each) <= 63 and set(each) <= _LABEL and each[0] != "-" != each[-1] for each in labels)
    return fit and len(labels) > 1 and len(host) <= _LONGEST_DOMAIN and labels[-1][0].isalpha()


def read_published(raw: bytes) -> Keys:
    """The keys of a JWK set that sign notices, the first `MOST_KEYS` of them; none, where it is no such set. Of bytes
    that anybody may have published: what is no key of ours, or none at all, is left out."""
    try:
        found = json.loads(raw)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    usable: dict[str, OKPKey] = {}
    for each in found if isinstance(found, list) else ():
        if len(usable) < MOST_KEYS and (key := _read(each)) is not None:
            # What a key is called there is nothing to go by.
            usable[key.thumbprint()] = key
    return usable


def _read(key: object) -> OKPKey | None:
    """The public one."""
    try:
        return OKPKey.import_key(OKPKey.import_key(key).as_dict(private=False)) if _signs(key) else None
    except (ValueError, KeyError, TypeError, JoseError):
        return None


def _signs(key: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(key, dict) and (key.get("kty"), key.get("crv"), key.get("use")) == ("OKP", "Ed25519", "sig")
