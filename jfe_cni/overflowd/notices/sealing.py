"""Signed notices as JWE (RFC 7516) to a receiver's own key: ECDH-ES with X25519 (RFC 8037, section 3.2), A256GCM. No
other algorithm is ever asked for, and nothing is decompressed.

Sealed outside, signed inside: who may not open it doesn't learn who tells whom of what, and who opens it can prove to
others what it was told.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED

KEY_AGREEMENT = "ECDH-ES"
ENCRYPTION = "A256GCM"
CURVE: Final = "X25519"
TYPE = "overflowd+jwe"
_ALGORITHMS = [KEY_AGREEMENT, ENCRYPTION]

LARGEST_HEADER = 1_024
"""Characters, as joserfc has it: an ephemeral key and a name are 300."""

# Four characters for three bytes (RFC 4648, section 4); vector, tag and four dots.
LARGEST_SEALED = LARGEST_SIGNED * 4 // 3 + LARGEST_HEADER + 64


def largest_sealed(signed: int) -> int:
    """Bytes that as many signed ones are at most, when they are sealed: with a header of our own, which is 400."""
    return signed * 4 // 3 + 512


class NotOpened(StrEnum):
    """Why something sealed is not read."""

    TOO_LARGE = "too-large"
    NO_JWE = "no-jwe"
    WRONG_ALGORITHM = "wrong-algorithm"
    COMPRESSED = "compressed"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_KEY = "unknown-key"
    WRONG_KEY = "wrong-key"
    """For another, or changed on its way."""


def new_key() -> OKPKey:
    return OKPKey.generate_key(CURVE, private=True)


def published(key: OKPKey) -> dict[str, Any]:
    """The JWK that a receiver publishes beside those that it signs by."""
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "enc", "alg": KEY_AGREEMENT}


def encryption_key(jwk_set: object) -> OKPKey | None:
    """The first that a notice can be sealed to, of a JWK set (RFC 7517, section 5) that anybody may have written. None:
    there is none."""
    keys = jwk_set.get("keys") if isinstance(jwk_set, dict) else None
    for each in keys if isinstance(keys, list) else ():
        if not isinstance(each, dict) or each.get("use") != "enc" or each.get("alg", KEY_AGREEMENT) != KEY_AGREEMENT:
            continue
        if (each.get("kty"), each.get("crv")) != ("OKP", CURVE) or not isinstance(each.get("x"), str):
            continue
        try:
            key = OKPKey.import_key({"kty": "OKP", "crv": CURVE, "x": each["x"]})
            # A point of small order is found out where it is used (RFC 7748, section 6.1).
            _seal(b"", key)
        except (JoseError, ValueError):
            continue
        return key
    return None


def seal(signed: bytes, key: OKPKey) -> bytes:
    """Compact. `key`: of `encryption_key`. Whoever holds it learns nothing more than `signed` says."""
    return _seal(signed, key)


def _seal(content: bytes, key: OKPKey) -> bytes:
    header = {"alg": KEY_AGREEMENT, "enc": ENCRYPTION, "kid": key.thumbprint(), "typ": TYPE}
    return jwe.encrypt_compact(header, content, key, algorithms=_ALGORITHMS).encode()


def is_sealed(raw: bytes) -> bool:
    """Whether it has the five parts of a JWE, where a JWS has three."""
    return raw.count(b".") == 4


def unseal(sealed: bytes, keys: Mapping[str, OKPKey]) -> bytes | NotOpened:
    """The signed notice, of which nothing is proven yet. `keys`: one's own, with their private halves, by thumbprint
    (RFC 7638)."""
    header = _header(sealed)
    if isinstance(header, NotOpened):
        return header
    if header.get("alg") != KEY_AGREEMENT or header.get("enc") != ENCRYPTION:
        return NotOpened.WRONG_ALGORITHM
    if "zip" in header:
        return NotOpened.COMPRESSED
    if header.get("typ") != TYPE:
        return NotOpened.WRONG_TYPE
    name = header.get("kid")
    key = keys.get(name) if isinstance(name, str) else None
    if key is None:
        return NotOpened.UNKNOWN_KEY
    try:
        opened = jwe.decrypt_compact(sealed, key, algorithms=_ALGORITHMS).plaintext
    # joserfc asserts what it expects of an ephemeral key, which the sender writes.
    except (JoseError, ValueError, TypeError, KeyError, AssertionError):
        return NotOpened.WRONG_KEY
    if opened is None:
        return NotOpened.WRONG_KEY
    return opened if len(opened) <= LARGEST_SIGNED else NotOpened.TOO_LARGE


def _header(sealed: bytes) -> dict[str, Any] | NotOpened:
    if len(sealed) > LARGEST_SEALED:
        return NotOpened.TOO_LARGE
    first, *rest = sealed.split(b".", 5)
    if len(rest) != 4 or len(first) > LARGEST_HEADER:
        return NotOpened.NO_JWE
    try:
        header = json.loads(base64.urlsafe_b64decode(first + b"=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        return NotOpened.NO_JWE
    return header if isinstance(header, dict) else NotOpened.NO_JWE
