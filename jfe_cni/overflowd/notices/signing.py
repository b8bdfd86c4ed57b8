"""Notices as JWS (RFC 7515), signed by Ed25519 (RFC 8037, under its own name as RFC 9864 has it: "EdDSA" is of no one
curve, and deprecated). Verified by that alone: no other algorithm, and none, is ever asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.notices.notice import LARGEST, Notice, Unfit, decode, encode

ALGORITHM = "Ed25519"
TYPE = "overflowd+jws"
# The header, the signature, and a third more for base64.
LARGEST_SIGNED = (LARGEST + 512) * 4 // 3 + 128
# A thumbprint: SHA-256 in base64url (RFC 7638, section 3).
_NAME = re.compile(r"[A-Za-z0-9_-]{43}")


class Refused(StrEnum):
    """Why a signature is not believed."""

    TOO_LARGE = "too-large"
    NO_JWS = "no-jws"
    WRONG_ALGORITHM = "wrong-algorithm"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_KEY = "unknown-key"
    WRONG_SIGNATURE = "wrong-signature"


def sign(notice: Notice, key: OKPKey) -> str:
    """Compact. `key`: with its private half."""
    header = {"alg": ALGORITHM, "kid": key.thumbprint(), "typ": TYPE}
    return jws.serialize_compact(header, encode(notice), key, algorithms=[ALGORITHM])


def key_named(signed: bytes) -> str | Refused:
    """By whose key it says that it is signed, of which nothing is proven."""
    if len(signed) > LARGEST_SIGNED:
        return Refused.TOO_LARGE
    try:
        header = jws.extract_compact(signed).headers()
    except (JoseError, ValueError, RecursionError):
        return Refused.NO_JWS
    if not isinstance(header, dict) or header.get("alg") != ALGORITHM:
        return Refused.WRONG_ALGORITHM
    if header.get("typ") != TYPE:
        return Refused.WRONG_TYPE
    # No extension is understood here, so that none may be critical (RFC 7515, section 4.1.11).
    if "crit" in header:
        return Refused.NO_JWS
    name = header.get("kid")
    return name if isinstance(name, str) and _NAME.fullmatch(name) else Refused.UNKNOWN_KEY


def verified(signed: bytes, keys: Mapping[str, OKPKey]) -> Notice | Refused | Unfit:
    """`keys`: the public ones that are believed, by thumbprint (RFC 7638)."""
    name = key_named(signed)
    if isinstance(name, Refused):
        return name
    key = keys.get(name)
    if key is None:
        return Refused.UNKNOWN_KEY
    try:
        found = jws.deserialize_compact(signed, key, algorithms=[ALGORITHM])
    # joserfc takes some of what a header may say to be of the right type.
    except (JoseError, ValueError, TypeError, RecursionError):
        return Refused.WRONG_SIGNATURE
    return decode(found.payload)
