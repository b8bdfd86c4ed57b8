"""Passwords that are not checked here: what the service asks of who checks them (`walliam`)."""

from __future__ import annotations

from typing import Protocol

from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.store import SecretKind


class Elsewhere(Protocol):
    @property
    def kind(self) -> SecretKind: ...

    async def add(self, password: bytes, pepper: bytes, cost: Cost) -> bytes:
        """What to seal. Raises RequestError: no password, or no room for another; StoreError."""
        ...

    async def check(self, kept: bytes, password: bytes, pepper: bytes) -> bool:
        """Raises StoreError."""
        ...

    async def remove(self, kept: bytes) -> None:
        """It may have been done before. Raises StoreError."""
        ...

    def nobodys(self, cost: Cost) -> bytes:
        """As if kept of somebody, whom there is not: checked in the same time."""
        ...
