"""What all secrets of a store have in common, made with the store: one random key, sealed like a secret, under a name
that no caller and no owner can utter. Other keys are derived from it (RFC 5869), and none of them changes when the
key-encryption key does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jfe_cni.errors import ConflictError, StoreError
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.store import OwnerAct, SecretKind, Store, StoredSecret

# `names.check_name` wants a letter or a digit first.
NAME = "~root"
SERVICE = "ratelock"
_SIZE = 32
_KIND: SecretKind = "key"
_FIRST_VERSION = 1


@dataclass(frozen=True)
class RootKeys:
    """`pepper`: Argon2's secret value. `requests`: what a request asked for is stored as an HMAC under this: a plain
    digest of a password that was tried would be something to try passwords on. `checkpoints`: signs those of the
    log."""

    pepper: bytes = field(repr=False)
    requests: bytes = field(repr=False)
    checkpoints: Ed25519PrivateKey = field(repr=False)


async def load(store: Store, sealing: Sealing) -> RootKeys:
    """Made where there is none yet. Raises SealingError: the store belongs to another key-encryption key."""
    root = await _read(store, sealing)
    if root is None:
        made = os.urandom(_SIZE)
        sealed = await sealing.seal(made, Label(NAME, _KIND, _FIRST_VERSION))
        stored = StoredSecret(NAME, _KIND, "", sealed, None, _FIRST_VERSION)
        try:
            await store.put_secret(stored, OwnerAct(SERVICE, "root.make", NAME), expected_version=None)
            root = made
        except ConflictError as error:
            # Another replica was quicker: its key is the one.
            root = await _read(store, sealing)
            if root is None:
                raise StoreError("the store has a root key that it does not show", remedy="see its log") from error
    return RootKeys(
        pepper=_derive(root, b"pepper"),
        requests=_derive(root, b"requests"),
        checkpoints=Ed25519PrivateKey.from_private_bytes(_derive(root, b"checkpoints")),
    )


async def _read(store: Store, sealing: Sealing) -> bytes | None:
    stored = await store.secret(NAME)
    return None if stored is None else await sealing.open(stored.sealed, Label(NAME, _KIND, stored.version))


def _derive(root: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _SIZE, salt=None, info=b"ratelock " + purpose).derive(root)
