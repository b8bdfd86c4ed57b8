"""How notices get to the two ends of a flow, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jfe_cni.overflowd.delivery.assembly import Delivery, open_delivery

__all__ = ["Delivery", "open_delivery"]


def __getattr__(name: str) -> object:
    """When they are asked for: who wants to know who may be told needs no database."""
    if name in __all__:
        from jfe_cni.overflowd.delivery import assembly

        return getattr(assembly, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
