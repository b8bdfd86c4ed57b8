"""Certificates of workloads: issued, given to the upgrader, renewed at two thirds, and again when the roots change."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from jfe_cni.agent import messages
from jfe_cni.agent.control import Control
from jfe_cni.agent.faults import AuthorityAway, SigningBudgetSpent
from jfe_cni.agent.issuer import Issuer
from jfe_cni.agent.log import fields
from jfe_cni.agent.messages import Identity, Listeners, UpgraderWorkload
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.workload import Certificate, Workload
from jfe_cni.errors import JfeError, UpgraderError
from jfe_cni.identity.authority import Clock
from jfe_cni.identity.csr import Names
from jfe_cni.identity.leaf import Leaf
from jfe_cni.identity.spiffe import SpiffeId
from jfe_cni.rules.model import Mark


class Issuance:
    """`refused` is told why, in a word, of each certificate that was asked for and not had."""

    def __init__(
        self,
        issuer: Issuer,
        roster: Roster,
        mark: Mark,
        clock: Clock,
        log: logging.Logger,
        *,
        refused: Callable[[str], None],
    ) -> None:
        self._issuer = issuer
        self._roster = roster
        self._mark = mark
        self._clock = clock
        self._log = log
        self._refused = refused

    async def give(self, record: Record, control: Control) -> Listeners:
        """A new key and certificate, to the upgrader with all else that it must know of the workload. What is known of
        the certificate and the listeners goes into the record; the key is not kept.

        Raises IdentityError where nothing is signed, for now or at all, and what the upgrader refused."""
        workload = record.workload
        leaf = await self._issue(Names(SpiffeId.parse(workload.identity), workload.addresses))
        # Of one moment, whatever the roots become while the upgrader is told.
        bundle = self._issuer.bundle
        identity = Identity(workload.identity, leaf.certificates, leaf.key, bundle.pem())
        word = messages.add_workload(
            UpgraderWorkload(workload.id, workload.shape, workload.mode, identity, self._mark.bit, workload.settings)
        )
        answer = await control.ask(word, [record.namespace.fileno()])
        listeners = messages.listeners_of(answer)
        if listeners is None:
            raise UpgraderError("the upgrader says nothing of its listeners", remedy="restart the upgrader")
        certificate = Certificate(
            leaf.renew_at.timestamp(),
            leaf.not_after.timestamp(),
            bundle.fingerprints(),
            workload.addresses,
        )
        # The record may have changed meanwhile in what does not concern this.
        record.workload = dataclasses.replace(record.workload, certificate=certificate, listeners=listeners)
        record.uncertified = None
        return listeners

    def due(self, workload: Workload) -> bool:
        certificate = workload.certificate
        if certificate is None or certificate.roots != self._issuer.bundle.fingerprints():
            return True
        if certificate.addresses != workload.addresses:
            return True
        return self._clock().timestamp() >= certificate.renew_at

    def unable(self) -> str | None:
        """Why no certificate can be signed at present; None: it can."""
        why = self._issuer.unable()
        return None if why is None else str(why)

    def deferred(self) -> JfeError | None:
        """Why no certificate is asked for now that nobody waits for; None: it is."""
        return self._issuer.deferred()

    def expired(self, workload: Workload) -> bool:
        certificate = workload.certificate
        return certificate is None or self._clock().timestamp() >= certificate.expires

    async def renew_due(self, control: Control) -> None:
        """Renews what is due, each for itself: a failure is logged, shown, and tried again with the next call."""
        for record in self._roster:
            if record.workload.published and self.due(record.workload):
                await self.renew(record, control)

    async def renew(self, record: Record, control: Control) -> None:
        async with record.lock:
            if record.workload.published and self._roster.holds(record):
                await self.renew_locked(record, control)

    async def renew_locked(self, record: Record, control: Control) -> None:
        """For who holds the record's lock. A failure is shown until a certificate is issued, which stays due."""
        deferred = self.deferred()
        if deferred is not None:
            record.uncertified = str(deferred)
            return
        try:
            await self.give(record, control)
            self._roster.save()
        except JfeError as error:
            record.uncertified = str(error)
            self._log.error("certificate not renewed", extra=fields(workload=record.workload.id, error=str(error)))
        else:
            self._log.info("certificate renewed", extra=fields(workload=record.workload.id))

    async def _issue(self, names: Names) -> Leaf:
        try:
            return await self._issuer.issue(names)
        except JfeError as error:
            self._refused(_word(error))
            raise


def _word(error: JfeError) -> str:
    match error:
        case SigningBudgetSpent():
            return "budget-spent"
        case AuthorityAway():
            return "away"
        case _:
            return "refused"
