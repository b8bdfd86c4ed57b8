"""Secrets at rest: each under a data key of its own, that key under a key-encryption key that the store never sees.

    format (1) · length (1), key's id · length (2, big-endian), wrapped data key · nonce (12) · AES-256-GCM's output

All that stands before the nonce is associated data, and so are the secret's name, kind and version: what was sealed as
one secret does not open as another, nor as what the same one has become. A data key seals once, whence its nonces can't
repeat (NIST SP 800-38D, section 8).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError

_FORMAT = 1
_NONCE = 12
_DATA_KEY_BITS = 256
_LONGEST_ID = 255
_LONGEST_WRAPPED = 65_535


class KeyEncryptionKey(Protocol):
    """Wraps data keys of 32 bytes. `context` is authenticated, not kept: the same must be given to unwrap.

    Raises SealingError where it refuses, KeyUnreachable where trying again can help."""

    @property
    def id(self) -> str:
        """Up to 255 bytes of ASCII; stands in clear before all that this key has sealed."""
        ...

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes: ...
    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes: ...


@dataclass(frozen=True)
class Label:
    """What a sealed secret belongs to, and opens as nothing else."""

    name: str
    kind: str
    version: int

    @property
    def context(self) -> dict[str, str]:
        """For the key-encryption key. A KMS writes it into its own log, in clear: it says which secret was opened."""
        return {"ratelock:name": self.name, "ratelock:kind": self.kind, "ratelock:version": str(self.version)}

    def as_bytes(self) -> bytes:
        name, kind = self.name.encode(), self.kind.encode()
        return struct.pack(f">H{len(name)}sB{len(kind)}sQ", len(name), name, len(kind), kind, self.version)


@dataclass(frozen=True)
class _Parts:
    header: bytes
    key_id: str
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


class Sealing:
    """Seals with one key-encryption key, opens with that and with former ones. While keys are rotated, every replica
    knows both before one of them seals with the new."""

    def __init__(self, seals: KeyEncryptionKey, opens: Sequence[KeyEncryptionKey] = ()) -> None:
        keys = (seals, *opens)
        for key in keys:
            if not (key.id.isascii() and 1 <= len(key.id) <= _LONGEST_ID):
                raise RequestError(
                    f"a key-encryption key can't be called {key.id[:40]!r}", remedy="use up to 255 ASCII characters"
                )
        self._seals = seals
        self._keys = {key.id: key for key in reversed(keys)}

    async def seal(self, plaintext: bytes, label: Label) -> bytes:
        """Raises SealingError."""
        data_key = AESGCM.generate_key(_DATA_KEY_BITS)
        wrapped = await self._seals.wrap(data_key, label.context)
        if len(wrapped) > _LONGEST_WRAPPED:
            raise SealingError(f"{self._seals.id} wraps a data key in {len(wrapped)} bytes", remedy="use another key")
        key_id = self._seals.id.encode()
        header = struct.pack(f">BB{len(key_id)}sH{len(wrapped)}s", _FORMAT, len(key_id), key_id, len(wrapped), wrapped)
        nonce = os.urandom(_NONCE)
        return header + nonce + AESGCM(data_key).encrypt(nonce, plaintext, header + label.as_bytes())

    async def open(self, sealed: bytes, label: Label) -> bytes:
        """Raises SealingError: altered, sealed as something else, or under a key that is not here."""
        parts = _parse(sealed, label.name)
        key = self._keys.get(parts.key_id)
        if key is None:
            raise SealingError(
                f"{label.name} is sealed under {parts.key_id}, which was not given",
                remedy="give that key too, as one that opens, until everything is sealed anew",
            )
        data_key = await key.unwrap(parts.wrapped, label.context)
        try:
            return AESGCM(data_key).decrypt(parts.nonce, parts.ciphertext, parts.header + label.as_bytes())
        except (InvalidTag, ValueError) as error:
            raise _altered(label.name) from error

    def is_current(self, sealed: bytes, name: str) -> bool:
        """Whether it is sealed under the key that seals now. Says nothing about whether it opens. Raises SealingError
        where it is nothing sealed at all."""
        return _parse(sealed, name).key_id == self._seals.id


def _parse(sealed: bytes, name: str) -> _Parts:
    try:
        version, id_length = struct.unpack_from(">BB", sealed)
        key_id, wrapped_length = struct.unpack_from(f">{id_length}sH", sealed, 2)
        start = 4 + id_length + wrapped_length
        if version != _FORMAT or len(sealed) < start + _NONCE:
            raise _altered(name)
        return _Parts(
            header=sealed[:start],
            key_id=key_id.decode("ascii"),
            wrapped=sealed[start - wrapped_length : start],
            nonce=sealed[start : start + _NONCE],
            ciphertext=sealed[start + _NONCE :],
        )
    except (struct.error, UnicodeDecodeError) as error:
        raise _altered(name) from error


def _altered(name: str) -> SealingError:
    return SealingError(
        f"what is stored as {name} was not sealed as {name}: altered, damaged, or another secret's",
        remedy="restore it from a backup, or remove it and add it anew",
    )
