"""A key-encryption key in Vault's (or OpenBao's) transit engine, which keeps it. What is wrapped is bound to its secret
by associated data, for which the key must be of an AEAD type (`aes256-gcm96`, as by default).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import KeyUnreachable, SealingError
from jfe_cni.ratelock.keys.local import context_bytes


class VaultKey:
    """`client`: hvac's. Vault's own rotation of a transit key needs none of ours: the engine opens former versions,
    until `min_decryption_version` says otherwise; seal everything anew before."""

    def __init__(self, client: Any, name: str, mount: str = "transit") -> None:
        self._client = client
        self._name = name
        self._mount = mount

    @property
    def id(self) -> str:
        return f"vault:{self._mount}/{self._name}"

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        answer = await self._call("encrypt_data", context, plaintext=base64.b64encode(data_key).decode())
        return str(answer["ciphertext"]).encode()

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        try:
            ciphertext = wrapped.decode("ascii")
            answer = await self._call("decrypt_data", context, ciphertext=ciphertext)
            return base64.b64decode(answer["plaintext"], validate=True)
        except (UnicodeDecodeError, binascii.Error) as error:
            raise SealingError(
                f"what {self.id} should open is not Vault's, or what it answered is not",
                remedy="restore the secret from a backup",
            ) from error

    async def _call(self, operation: str, context: Mapping[str, str], **arguments: str) -> dict[str, Any]:
        import requests
        from hvac.exceptions import (
            BadGateway,
            InternalServerError,
            RateLimitExceeded,
            VaultDown,
            VaultError,
            VaultNotInitialized,
        )

        call = getattr(self._client.secrets.transit, operation)
        bound = base64.b64encode(context_bytes(context)).decode()
        try:
            answer: dict[str, Any] = await asyncio.to_thread(
                call, self._name, mount_point=self._mount, associated_data=bound, **arguments
            )
        except (
            requests.RequestException,
            BadGateway,
            InternalServerError,
            RateLimitExceeded,
            VaultDown,
            VaultNotInitialized,
        ) as error:
            raise KeyUnreachable(
                f"Vault does not answer for {self.id}: {_line(error)}", remedy="see that it runs and is unsealed"
            ) from error
        except VaultError as error:
            raise SealingError(
                f"Vault refuses {self.id}: {_line(error)}",
                remedy="see that the token is valid, and that its policy allows to encrypt and decrypt with this key",
            ) from error
        data: dict[str, Any] = answer["data"]
        return data


def _line(error: Exception) -> str:
    """Vault's lists of errors have several lines."""
    return " ".join(str(error).split())


def vault_key(name: str, environment: Mapping[str, str], mount: str = "transit") -> VaultKey:
    """Address, token and namespace from VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, as Vault's own command line has them.
    Raises RequestError: hvac is not installed, or no address."""
    try:
        import hvac
    except ImportError as error:
        raise RequestError("Vault needs hvac", remedy="pip install 'jfe-cni[vault]'") from error
    address = environment.get("VAULT_ADDR")
    if not address:
        raise RequestError("no Vault: VAULT_ADDR is not set", remedy="set it, and VAULT_TOKEN")
    client = hvac.Client(
        url=address,
        token=environment.get("VAULT_TOKEN"),
        namespace=environment.get("VAULT_NAMESPACE"),
        timeout=_TIMEOUT,
    )
    return VaultKey(client, name, mount)


# Seconds. An attempt waits so long at most for Vault, which answers in milliseconds.
_TIMEOUT = 5
