"""What a name is answered from that nobody has: secrets sealed like the others, whose contents nobody knows. They are
opened and used as those are, so that neither the answer nor its time tells whether there is such a name.
"""

from __future__ import annotations

import asyncio
import base64
import os
from datetime import UTC, datetime

from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets import authority, key, record
from jfe_cni.ratelock.secrets.elsewhere import Elsewhere
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.store import Operation, SecretKind, StoredSecret

KIND: dict[Operation, SecretKind] = {
    "check": "password",
    "release": "record",
    "sign": "key",
    "mac": "key",
    "decrypt": "key",
    "certify": "key",
}
_ALGORITHM: dict[Operation, str] = {"sign": "ed25519", "mac": "hmac-sha256", "decrypt": "rsa-oaep-3072"}
# `names.check_name` wants a letter or a digit first: no secret is called so.
_PREFIX = "~decoy-"


class Decoys:
    """One an operation, made when that is first asked for."""

    def __init__(self, sealing: Sealing, cost: Cost, elsewhere: Elsewhere | None = None) -> None:
        """`elsewhere`: where passwords are checked, if not here."""
        self._sealing = sealing
        self._elsewhere = elsewhere
        self._cost = cost
        self._made: dict[Operation, StoredSecret] = {}
        self._making = asyncio.Lock()

    async def of(self, operation: Operation) -> StoredSecret:
        """To be asked for whatever the name is: the first time takes longer, up to a second for an RSA key."""
        if operation not in self._made:
            async with self._making:
                if operation not in self._made:
                    self._made[operation] = await self._make(operation)
        return self._made[operation]

    async def _make(self, operation: Operation) -> StoredSecret:
        kind = KIND[operation]
        if kind == "password" and self._elsewhere is not None:
            kind = self._elsewhere.kind
        label = Label(_PREFIX + operation, kind, 1)
        sealed = await self._sealing.seal(await asyncio.to_thread(self._contents, operation), label)
        return StoredSecret(label.name, kind, "", sealed, None, label.version)

    def _contents(self, operation: Operation) -> bytes:
        match KIND[operation]:
            case "password" if self._elsewhere is not None:
                return self._elsewhere.nobodys(self._cost)
            case "password":
                return unknown_hash(self._cost)
            case "record":
                return record.encode({"decoy": ""})
            case _ if operation == "certify":
                return authority.make("decoy", datetime.now(UTC)).opened
            case _:
                return key.generate(_ALGORITHM[operation]).opened


def is_decoy(secret: StoredSecret) -> bool:
    return secret.name.startswith(_PREFIX)


def unknown_hash(cost: Cost) -> bytes:
    """A PHC string of no known password: to verify one against it costs what it does against a real one."""
    salt, tag = (base64.b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"$argon2id$v=19$m={cost.memory},t={cost.iterations},p={cost.lanes}${salt}${tag}".encode()
