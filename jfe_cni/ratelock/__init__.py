"""Secrets and the rules for using them, in a service that its callers can invoke, but neither change nor bypass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jfe_cni.ratelock.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    """The clients, when they are asked for: who imports the budgets alone needs no HTTP."""
    if name in __all__:
        from jfe_cni.ratelock import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
