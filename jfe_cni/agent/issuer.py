"""Who certifies this node's workloads: an authority in a folder of the host, or one behind ratelock."""

from __future__ import annotations

import asyncio
from typing import Protocol

from cryptography import x509

from jfe_cni.errors import JfeError, RequestError
from jfe_cni.identity.authority import Authority, Clock
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.leaf import Leaf
from jfe_cni.identity.spiffe import TrustDomain


class Issuer(Protocol):
    @property
    def trust_domain(self) -> TrustDomain: ...

    @property
    def bundle(self) -> TrustBundle:
        """As it was known last; the root that signs first."""
        ...

    @property
    def phase(self) -> str:
        """Where a rotation stands: see `AuthorityReport`."""
        ...

    async def issue(self, names: Names) -> Leaf:
        """A new key and its certificate. Raises IdentityError, of which `AuthorityAway` and `SigningBudgetSpent` may
        be over later."""
        ...

    async def reload(self) -> None:
        """Looks whether the roots have changed, and whether an authority that was away is back. Quick, or now and then
        as long as a request may take. Raises IdentityError."""
        ...

    async def rotate(self, step: str) -> None:
        """`begin`, `switch` or `retire`. Raises RequestError where that can't be, or not here."""
        ...

    def unable(self) -> JfeError | None:
        """Why nothing is certified at present; None: as far as is known, it is."""
        ...

    def deferred(self) -> JfeError | None:
        """Why certificates that nobody waits for are not asked for now; None: they are."""
        ...

    async def close(self) -> None: ...


def expired(root: x509.Certificate) -> JfeError:
    return JfeError(f"the authority expired at {root.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}")


class LocalIssuer:
    """Issuer: an authority whose folder this host has."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        self._authority = authority
        self._clock = clock

    @property
    def trust_domain(self) -> TrustDomain:
        return self._authority.trust_domain

    @property
    def bundle(self) -> TrustBundle:
        return self._authority.bundle

    @property
    def phase(self) -> str:
        return self._authority.phase.value

    async def issue(self, names: Names) -> Leaf:
        return self._authority.issue(names)

    async def reload(self) -> None:
        """Another agent that shares the folder may have rotated it."""
        await asyncio.to_thread(self._authority.reload)

    async def rotate(self, step: str) -> None:
        match step:
            case "begin":
                await asyncio.to_thread(self._authority.begin_rotation)
            case "switch":
                await asyncio.to_thread(self._authority.switch)
            case "retire":
                await asyncio.to_thread(self._authority.retire)
            case _:
                raise RequestError(f"{step!r} is no step of a rotation", remedy="the steps are begin, switch, retire")

    def unable(self) -> JfeError | None:
        root = self._authority.signing_root
        return None if self._clock() < root.not_valid_after_utc else expired(root)

    def deferred(self) -> JfeError | None:
        return None

    async def close(self) -> None:
        """Nothing is held open."""
