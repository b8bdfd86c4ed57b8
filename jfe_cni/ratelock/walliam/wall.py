"""Passwords kept in the cloud: what `secrets/password.py` is to the store."""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.store import SecretKind
from jfe_cni.ratelock.walliam.accounts import Accounts
from jfe_cni.ratelock.walliam.cipher import Kept, decrypt, encrypt, nobodys

_log = logging.getLogger("ratelock")


class Wall:
    kind: SecretKind = "walliam"

    def __init__(self, accounts: Accounts, hashing: Hashing) -> None:
        self._accounts = accounts
        self._hashing = hashing

    async def add(self, password: bytes, pepper: bytes, cost: Cost) -> bytes:
        """What to keep of a new user. Where the account's quota is near, the log says so.

        Raises RequestError: no password, or the quota is spent; StoreError."""
        user = f"ratelock-{secrets.token_hex(16)}"
        access_key_id, secret_key = await asyncio.to_thread(self._accounts.create, user)
        try:
            encrypted = partial(encrypt, user, access_key_id, secret_key, password, pepper, cost)
            kept = await self._hashing.run(encrypted)
            await asyncio.to_thread(self._accounts.wait_until_known, access_key_id, secret_key)
            quota = await asyncio.to_thread(self._accounts.quota)
        except JfeError:
            await asyncio.to_thread(self._accounts.delete, user, access_key_id)
            raise
        if quota.is_near:
            _log.warning("%s", quota)
        return kept.encode()

    async def check(self, kept: bytes, password: bytes, pepper: bytes) -> bool:
        """Raises RequestError: the password is too long; SealingError; StoreError: the cloud is away."""
        opened = Kept.decode(kept)
        secret_key = await self._hashing.run(partial(decrypt, opened, password, pepper))
        return await asyncio.to_thread(self._accounts.log_in, opened.access_key_id, secret_key)

    def nobodys(self, cost: Cost) -> bytes:
        return nobodys(cost).encode()

    async def remove(self, kept: bytes) -> None:
        """Raises StoreError: the user may be there still."""
        opened = Kept.decode(kept)
        await asyncio.to_thread(self._accounts.delete, opened.user, opened.access_key_id)
