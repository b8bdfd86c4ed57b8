"""By which way a chain is joined: an entry in the list itself, or a file in the network's drop-in folder."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from jfe_cni.cni.network_folder import NetworkFile
from jfe_cni.errors import RequestError

Choice = Literal["auto", "inline", "drop-in"]
"""What the operator asks for."""


class Way(Enum):
    """`BOTH` while it is not known whether the runtime honours drop-ins: we are called twice, which changes nothing."""

    INLINE = "inline"
    DROP_IN = "drop-in"
    BOTH = "both"

    @property
    def inline(self) -> bool:
        return self is not Way.DROP_IN

    @property
    def drop_in(self) -> bool:
        return self is not Way.INLINE


class Evidence(Enum):
    """What is known of a network's drop-in: a call came by it; none came yet; none came within the time given for it;
    or there is no agent who could tell."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    DISPROVEN = "disproven"
    UNKNOWN = "unknown"


def way_wanted(choice: Choice, network: NetworkFile, evidence: Evidence, *, drop_in_there: bool) -> Way:
    """`drop_in_there`: whether ours is in its folder now; without an agent it is left as it is.

    Raises RequestError where the way that is asked for does not exist for this network."""
    if choice == "drop-in" and not network.takes_drop_in:
        raise RequestError(
            f"the network {network.name} in {network.path} takes no drop-ins", remedy="give --chain inline or auto"
        )
    if choice == "inline" and not network.takes_inline:
        raise RequestError(
            f"the network {network.name} in {network.path} has drop-ins only: an entry in the list would come first",
            remedy="give --chain drop-in or auto",
        )
    if choice == "drop-in" or not network.takes_inline:
        return Way.DROP_IN
    if choice == "inline" or not network.takes_drop_in:
        return Way.INLINE
    match evidence:
        case Evidence.PROVEN:
            return Way.DROP_IN
        case Evidence.UNPROVEN:
            return Way.BOTH
        case Evidence.DISPROVEN:
            return Way.INLINE
        case Evidence.UNKNOWN:
            return Way.BOTH if drop_in_there else Way.INLINE
