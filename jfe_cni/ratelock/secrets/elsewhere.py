"""Passwords that are not checked here: what the service asks of who checks them (`walliam`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.store import SecretKind


@dataclass(frozen=True)
class Kept:
    """`content`: what to seal. `user`: the cloud's name of whom it is kept for; no secret."""

    content: bytes
    user: str


@dataclass(frozen=True)
class Checked:
    """`anew`: what to seal in its place, where the cost has risen since it was kept."""

    right: bool
    anew: bytes | None = None


class Elsewhere(Protocol):
    @property
    def kind(self) -> SecretKind: ...

    async def add(self, password: bytes, pepper: bytes, cost: Cost) -> Kept:
        """Whole or not at all, cancelled too. Raises RequestError: no password, or no room for another; StoreError."""
        ...

    async def check(self, content: bytes, password: bytes, pepper: bytes, cost: Cost) -> Checked:
        """A wrong one takes what `cost` does, whatever it was kept at. Raises StoreError."""
        ...

    async def remove(self, content: bytes) -> None:
        """It may have been done before. Raises StoreError."""
        ...

    async def abandon(self, user: str) -> None:
        """As `remove`, of somebody whom the store does not know. Where it can't be done, the log says so."""
        ...

    def nobodys(self, cost: Cost) -> bytes:
        """As if kept of somebody, whom there is not: checked in the same time."""
        ...
