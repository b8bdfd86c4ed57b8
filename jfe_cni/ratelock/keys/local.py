"""A key-encryption key in this process's memory. `file.py` and `environment.py` say where it comes from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jfe_cni.ratelock.faults import SealingError

KEY_SIZE = 32
_NONCE = 12


class LocalKey:
    """AES-256-GCM under random nonces: good for 2³² sealings (NIST SP 800-38D, section 8.3), then rotate."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise SealingError(f"a key-encryption key has {KEY_SIZE} bytes, not {len(key)}", remedy=MAKE_ONE)
        self._cipher = AESGCM(key)
        # Of the key alone: moved from a file to the environment it is the same.
        self._id = "local:" + hmac.digest(key, b"ratelock key-encryption key id", hashlib.sha256)[:8].hex()

    @property
    def id(self) -> str:
        return self._id

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data_key, context_bytes(context))

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context_bytes(context))
        except (InvalidTag, ValueError) as error:
            raise SealingError(
                f"{self._id} does not open the data key of {context.get('ratelock:name', 'a secret')}: altered or "
                "another secret's",
                remedy="restore it from a backup, or remove it and add it anew",
            ) from error


MAKE_ONE = "make one: head -c 32 /dev/urandom | base64"


def decode(text: str, where: str) -> LocalKey:
    """From base64 of 32 bytes. Raises SealingError, which does not quote it."""
    try:
        return LocalKey(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise SealingError(f"the key-encryption key in {where} is not base64", remedy=MAKE_ONE) from error


def context_bytes(context: Mapping[str, str]) -> bytes:
    """One text for one context: pairs in order, each part behind its length."""
    return b"".join(
        len(part).to_bytes(4, "big") + part
        for pair in sorted(context.items())
        for part in (pair[0].encode(), pair[1].encode())
    )
