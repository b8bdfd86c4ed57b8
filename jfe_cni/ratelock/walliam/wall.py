"""Passwords kept in the cloud: what `secrets/password.py` is to the store."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.secrets.elsewhere import Checked, Kept
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import Cost, make_up
from jfe_cni.ratelock.store import SecretKind
from jfe_cni.ratelock.walliam import cipher
from jfe_cni.ratelock.walliam.accounts import Accounts

T = TypeVar("T")

_log = logging.getLogger("ratelock")


class Wall:
    kind: SecretKind = "walliam"

    def __init__(self, accounts: Accounts, hashing: Hashing) -> None:
        self._accounts = accounts
        self._hashing = hashing

    async def add(self, password: bytes, pepper: bytes, cost: Cost) -> Kept:
        """A new user. Where the account's quota is near, the log says so.

        Raises RequestError: no password, or the quota is spent; StoreError."""
        user = f"ratelock-{secrets.token_hex(16)}"
        kept = None
        try:
            kept = await self._made(user, password, pepper, cost)
        finally:
            if kept is None:
                await self.abandon(user)
        return kept

    async def _made(self, user: str, password: bytes, pepper: bytes, cost: Cost) -> Kept:
        access_key_id, secret_key = await _to_its_end(partial(self._accounts.create, user))
        encrypted = partial(cipher.encrypt, user, access_key_id, secret_key, password, pepper, cost)
        opens = await self._hashing.run(encrypted)
        await _to_its_end(partial(self._accounts.wait_until_known, access_key_id, secret_key))
        quota = await asyncio.to_thread(self._accounts.quota)
        if quota.is_near:
            _log.warning("%s", quota)
        return Kept(opens.encode(), user)

    async def check(self, content: bytes, password: bytes, pepper: bytes, cost: Cost) -> Checked:
        """Raises RequestError: the password is too long; SealingError; StoreError: the cloud is away."""
        opens = cipher.Kept.decode(content)
        secret_key = await self._hashing.run(partial(cipher.decrypt, opens, password, pepper))
        if not await asyncio.to_thread(self._accounts.log_in, opens.access_key_id, secret_key):
            await self._hashing.run(partial(make_up, password, opens.cost, cost))
            return Checked(False)
        if cost.work <= opens.cost.work:
            return Checked(True)
        encrypted = partial(cipher.encrypt, opens.user, opens.access_key_id, secret_key, password, pepper, cost)
        return Checked(True, (await self._hashing.run(encrypted)).encode())

    async def remove(self, content: bytes) -> None:
        """Raises StoreError: the user may be there still."""
        await _to_its_end(partial(self._accounts.delete, cipher.Kept.decode(content).user))

    async def abandon(self, user: str) -> None:
        try:
            await _to_its_end(partial(self._accounts.delete, user))
        except JfeError as error:
            _log.warning("the cloud's user %s belongs to no secret, and is there perhaps: delete it (%s)", user, error)

    def nobodys(self, cost: Cost) -> bytes:
        return cipher.nobodys(cost).encode()


async def _to_its_end(work: Callable[[], T]) -> T:
    """A thread goes on when who waits for it is cancelled: what it does is done before anything else is."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
