"""What a name is answered from that nobody has: secrets sealed like the others, whose contents nobody knows. They are
opened and used as those are, so that neither the answer nor its time tells whether there is such a name.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping

from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets import key, record
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.store import Operation, SecretKind, StoredSecret

Decoys = Mapping[Operation, StoredSecret]
_ALGORITHM: dict[Operation, str] = {"sign": "ed25519", "mac": "hmac-sha256", "decrypt": "rsa-oaep-3072"}


async def make(sealing: Sealing, cost: Cost) -> Decoys:
    """Takes up to a second, for the RSA key."""
    decoys: dict[Operation, StoredSecret] = {
        "check": await _seal(sealing, "check", "password", unknown_hash(cost)),
        "release": await _seal(sealing, "release", "record", record.encode({"decoy": ""})),
    }
    for operation, algorithm in _ALGORITHM.items():
        made = await asyncio.to_thread(key.generate, algorithm)
        decoys[operation] = await _seal(sealing, operation, "key", made.opened)
    return decoys


def is_decoy(secret: StoredSecret) -> bool:
    return secret.name.startswith(_PREFIX)


def unknown_hash(cost: Cost) -> bytes:
    """A PHC string of no known password: to verify one against it costs what it does against a real one."""
    salt, tag = (base64.b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"$argon2id$v=19$m={cost.memory},t={cost.iterations},p={cost.lanes}${salt}${tag}".encode()


async def _seal(sealing: Sealing, operation: Operation, kind: SecretKind, opened: bytes) -> StoredSecret:
    label = Label(_PREFIX + operation, kind, 1)
    return StoredSecret(label.name, kind, "", await sealing.seal(opened, label), None, label.version)


# `names.check_name` wants a letter or a digit first: no secret is called so.
_PREFIX = "~decoy-"
