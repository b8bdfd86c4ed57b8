"""How a receiver asks not to be told any more, as JWS by its own key. It proves no address: that is proven by where it
comes from, and by the digest of a notice that was sent there alone. The key tells later whether the same asks again.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.notices import strict_json
from jfe_cni.overflowd.notices.signing import ALGORITHM

TYPE = "overflowd-opt-out+jws"
LARGEST_SIGNED = 1_024

WIDEST = {4: 24, 6: 48}
"""Prefix lengths: as much as is announced by itself between networks at least (RFC 7454, section 6.1.3), and so as much
as one address may speak for."""

_ONE = {4: 32, 6: 128}
_DIGEST = re.compile(r"[A-Za-z0-9_-]{22}")
_LAST = 253_402_300_799
"""Seconds since the epoch: the end of the year 9999, and of the calendar (RFC 3339, section 1). Later is for good."""


class Unasked(StrEnum):
    """Why it is not taken for a wish to be left alone."""

    TOO_LARGE = "too-large"
    NO_JWS = "no-jws"
    WRONG_ALGORITHM = "wrong-algorithm"
    WRONG_TYPE = "wrong-type"
    WRONG_SIGNATURE = "wrong-signature"
    MISSHAPEN = "misshapen"
    OTHER_NOTICE = "other-notice"


@dataclass(frozen=True)
class OptOutAsked:
    """`key`: the thumbprint of the one that signed it. `until`: seconds since the epoch; None, for good.
    `prefix_length`: None, for the one address."""

    key: str
    until: int | None
    prefix_length: int | None

    def network(self, address: Address) -> IPv4Network | IPv6Network:
        """What is left alone: no more than `WIDEST`."""
        version = address.version
        length = _ONE[version] if self.prefix_length is None else self.prefix_length
        return ip_network((address, min(max(length, WIDEST[version]), _ONE[version])), strict=False)


def sign(digest: str, key: OKPKey, *, until: int | None = None, prefix_length: int | None = None) -> str:
    """Compact, with the public key in it. `digest`: of the notice that it answers (`messages.digest`)."""
    header = {"alg": ALGORITHM, "jwk": _public(key), "typ": TYPE}
    payload: dict[str, object] = {"digest": digest}
    if until is not None:
        payload["until"] = until
    if prefix_length is not None:
        payload["prefix length"] = prefix_length
    content = json.dumps(payload, separators=(",", ":")).encode()
    return jws.serialize_compact(header, content, key, algorithms=[ALGORITHM])


def asked(signed: bytes, digest: str) -> OptOutAsked | Unasked:
    """Of bytes that anybody may have sent. `digest`: of what was sent to where they come from."""
    if len(signed) > LARGEST_SIGNED:
        return Unasked.TOO_LARGE
    try:
        header = jws.extract_compact(signed).headers()
    except (JoseError, ValueError, RecursionError):
        return Unasked.NO_JWS
    if not isinstance(header, dict) or header.get("alg") != ALGORITHM:
        return Unasked.WRONG_ALGORITHM
    if header.get("typ") != TYPE:
        return Unasked.WRONG_TYPE
    try:
        key = _read_key(header.get("jwk"))
        payload = jws.deserialize_compact(signed, key, algorithms=[ALGORITHM]).payload
    except (JoseError, ValueError, TypeError, KeyError):
        return Unasked.WRONG_SIGNATURE
    return _read(payload, digest, key.thumbprint())


def _read(payload: bytes, digest: str, key: str) -> OptOutAsked | Unasked:
    try:
        document = strict_json.read(payload)
    except (ValueError, RecursionError):
        return Unasked.MISSHAPEN
    if not isinstance(document, dict):
        return Unasked.MISSHAPEN
    said, until, length = (document.get(name) for name in ("digest", "until", "prefix length"))
    if not isinstance(said, str) or not _DIGEST.fullmatch(said):
        return Unasked.MISSHAPEN
    if not _is_number(until) or not _is_number(length, 128):
        return Unasked.MISSHAPEN
    if until is not None and until > _LAST:
        until = None
    return OptOutAsked(key, until, length) if said == digest else Unasked.OTHER_NOTICE


def _is_number(value: object, most: float = math.inf) -> bool:
    # A bool is an int, and no number.
    return value is None or (type(value) is int and 0 <= value <= most)


def _public(key: OKPKey) -> dict[str, Any]:
    found = key.as_dict(private=False)
    return {name: found[name] for name in ("kty", "crv", "x")}


def _read_key(jwk: object) -> OKPKey:
    """Raises KeyError, ValueError, JoseError."""
    if not isinstance(jwk, dict) or (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
        raise ValueError("no Ed25519 key")
    return OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
