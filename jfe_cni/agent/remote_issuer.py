"""Issuer: an authority behind ratelock. Keys are made here and stay here; what leaves is a request, what comes is a
certificate, under a budget of this node and one in all.

While ratelock is away, or the budget is spent, nothing that was signed is less good for it. Who waits for a certificate
is refused at once and with the reason; what is only due waits, so that a node does not spend on renewals, nor the agent
on waiting, what new workloads need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509

from jfe_cni.agent.bundle_cache import BundleCache
from jfe_cni.agent.ca_connection import CaConnection
from jfe_cni.agent.faults import AuthorityAway, SigningBudgetSpent
from jfe_cni.agent.issuer import expired
from jfe_cni.agent.log import fields
from jfe_cni.errors import IdentityError, JfeError, RequestError
from jfe_cni.identity import csr, leaf
from jfe_cni.identity.authority import Clock
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.root import trust_domain_of
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.ratelock.client import AsyncClient, ServiceUnreachable
from jfe_cni.ratelock.faults import BudgetSpent, Unauthenticated

# With the tries that the client makes by itself; longer than one may take.
_REQUEST_SECONDS = 10.0
# A rotation's steps are hours apart.
_REFRESH = timedelta(seconds=60)
# However long a spent budget says: an owner may have loosened it meanwhile, and to ask costs nothing of it.
_LONGEST_DEFERRAL = timedelta(seconds=60)
_WHOSE = {"caller": "this node", "secret": "the authority", "class": "the authority's class", "all": "all"}

T = TypeVar("T")


class RemoteIssuer:
    """Make one with `open_remote`."""

    def __init__(
        self,
        connection: CaConnection,
        node: str,
        domain: TrustDomain,
        bundle: TrustBundle | None,
        cache: BundleCache,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._connection = connection
        self._node = node
        self._domain = domain
        self._bundle = bundle
        self._cache = cache
        self._clock = clock
        self._log = log
        # Why it answers nothing, until it answers.
        self._away: JfeError | None = None
        self._spent: BudgetSpent | None = None
        self._spent_until = self._ask_again = self._refreshed = datetime.min.replace(tzinfo=clock().tzinfo)

    @property
    def trust_domain(self) -> TrustDomain:
        return self._domain

    @property
    def bundle(self) -> TrustBundle:
        assert self._bundle is not None, "there is none before it is opened"
        return self._bundle

    @property
    def phase(self) -> str:
        return "remote"

    async def issue(self, names: Names) -> leaf.Leaf:
        key = leaf.new_key()
        request = csr.request(key, names)
        secret = self._connection.address.secret
        certificate = await self._asked(lambda client: client.certify(secret, request, self._node))
        self._spent = None
        _refuse_other_names(certificate, names)
        try:
            return leaf.load(certificate, leaf.key_pem(key), self.bundle, self._clock())
        except IdentityError:
            # By a root that is new since the bundle was read, perhaps.
            await self.refresh()
            return leaf.load(certificate, leaf.key_pem(key), self.bundle, self._clock())

    async def reload(self) -> None:
        if self._away is None and self._clock() - self._refreshed < _REFRESH:
            return
        try:
            await self.refresh()
        except AuthorityAway:
            # Logged when it went, and shown until it is back.
            return

    async def refresh(self) -> None:
        """Reads the roots anew. Raises IdentityError: none that are of this trust domain, or as `issue`."""
        secret = self._connection.address.secret
        bundle = TrustBundle.parse(await self._asked(lambda client: client.trust_bundle(secret)))
        if any(trust_domain_of(root) != self._domain for root in bundle.roots):
            raise IdentityError(
                f"the authority {secret} behind ratelock is for another trust domain than {self._domain}",
                remedy="name its trust domain in the settings, or another authority",
            )
        self._refreshed = self._clock()
        if bundle != self._bundle:
            self._bundle = bundle
            self._cache.save(bundle)

    async def rotate(self, step: str) -> None:
        raise RequestError(
            "the authority's key is in ratelock",
            remedy=f"rotate it there: ratelock ca rotate {self._connection.address.secret} {step}",
        )

    def unable(self) -> JfeError | None:
        if self._away is not None:
            return self._away
        if self._spent is not None and self._clock() < self._spent_until:
            return self._budget_spent(self._spent)
        root = self.bundle.roots[0]
        return None if self._clock() < root.not_valid_after_utc else expired(root)

    def deferred(self) -> JfeError | None:
        if self._away is not None:
            return self._away
        if self._spent is not None and self._clock() < self._ask_again:
            return self._budget_spent(self._spent)
        return None

    async def close(self) -> None:
        await self._connection.close()

    async def _asked(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What ratelock answers. What it says of itself is remembered; what it says of one request is its caller's."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                answer = await ask(await self._connection.client())
        except BudgetSpent as error:
            self._answers()
            after = timedelta(seconds=error.retry_after or 0.0)
            self._spent, self._spent_until = error, self._clock() + after
            self._ask_again = self._clock() + min(after, _LONGEST_DEFERRAL)
            raise self._budget_spent(error) from error
        except TimeoutError as error:
            raise self._went_away(f"{self._where} does not answer within {_REQUEST_SECONDS:g} s") from error
        except ServiceUnreachable as error:
            raise self._went_away(error.message) from error
        except IdentityError as error:
            raise self._went_away(error.message, error.remedy) from error
        except JfeError as error:
            if error.temporary:
                raise self._went_away(f"{self._where}: {error.message}", "see its log") from error
            if isinstance(error, Unauthenticated):
                remedy = "see the token or certificate that --ca-… names; an owner makes another"
                raise self._went_away(f"{self._where} does not know this node: {error.message}", remedy) from error
            self._answers()
            raise IdentityError(f"{self._where} does not certify it: {error.message}", error.remedy) from error
        self._answers()
        return answer

    @property
    def _where(self) -> str:
        return f"ratelock at {self._connection.address.url}"

    def _went_away(self, why: str, remedy: str = "start it, or mend the way there") -> AuthorityAway:
        away = AuthorityAway(
            f"no certificates at present: {why}", f"{remedy}; what has one goes on, and all else is tried again"
        )
        if self._away is None:
            self._log.error("ratelock away", extra=fields(error=str(away)))
        self._away = away
        return away

    def _answers(self) -> None:
        if self._away is not None:
            self._log.info("ratelock back", extra=fields(url=self._connection.address.url))
        self._away = None

    def _budget_spent(self, spent: BudgetSpent) -> SigningBudgetSpent:
        left = max(0.0, (self._spent_until - self._clock()).total_seconds())
        return SigningBudgetSpent(
            f"the signing budget of {_WHOSE[spent.meter.kind]} at ratelock is spent: "
            f"{spent.limit.count} in {spent.limit.window / 1e6:g} s",
            f"come again in {left:.1f} s, at {self._spent_until:%Y-%m-%d %H:%M:%SZ}, or ask an owner for a larger one",
        )


async def open_remote(
    connection: CaConnection, node: str, domain: TrustDomain, cache: BundleCache, clock: Clock, log: logging.Logger
) -> RemoteIssuer:
    """With the roots that were kept, where there are some: then nothing is asked of ratelock yet. Raises IdentityError:
    there are none, and ratelock is away or says no."""
    kept = await asyncio.to_thread(cache.load)
    if kept is not None and any(trust_domain_of(root) != domain for root in kept.roots):
        kept = None
    issuer = RemoteIssuer(connection, node, domain, kept, cache, clock, log)
    if kept is None:
        try:
            await issuer.refresh()
        except JfeError:
            await issuer.close()
            raise
    return issuer


def _refuse_other_names(certificate: str, names: Names) -> None:
    """Raises IdentityError: not for what was asked."""
    try:
        made = x509.load_pem_x509_certificate(certificate.encode())
        named = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise IdentityError(
            "what ratelock answered is no certificate", remedy="see which service --ca names"
        ) from error
    if named != names.subject_alternative_name():
        raise IdentityError(f"ratelock certified another than {names.id}", remedy="see which service --ca names")
