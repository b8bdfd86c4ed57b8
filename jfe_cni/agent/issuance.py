"""Certificates of workloads: issued, given to the upgrader, renewed at two thirds, and again when the roots change."""

from __future__ import annotations

import dataclasses
import logging

from jfe_cni.agent import messages
from jfe_cni.agent.control import Control
from jfe_cni.agent.log import fields
from jfe_cni.agent.messages import Identity, Listeners, UpgraderWorkload
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.workload import Certificate, Workload
from jfe_cni.errors import JfeError, UpgraderError
from jfe_cni.identity.authority import Authority, Clock
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId
from jfe_cni.rules.model import Mark


class Issuance:
    def __init__(self, authority: Authority, roster: Roster, mark: Mark, clock: Clock, log: logging.Logger) -> None:
        self._authority = authority
        self._roster = roster
        self._mark = mark
        self._clock = clock
        self._log = log

    async def give(self, record: Record, control: Control) -> Listeners:
        """A new key and certificate, to the upgrader with all else that it must know of the workload. What is known of
        the certificate and the listeners goes into the record; the key is not kept.

        Raises IdentityError where the authority can't sign, and what the upgrader refused."""
        workload = record.workload
        leaf = self._authority.issue(Names(SpiffeId.parse(workload.identity), workload.addresses))
        identity = Identity(workload.identity, leaf.certificates, leaf.key, self._authority.bundle.pem())
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
            self._authority.bundle.fingerprints(),
            workload.addresses,
        )
        # The record may have changed meanwhile in what does not concern this.
        record.workload = dataclasses.replace(record.workload, certificate=certificate, listeners=listeners)
        record.uncertified = None
        return listeners

    def due(self, workload: Workload) -> bool:
        certificate = workload.certificate
        if certificate is None or certificate.roots != self._authority.bundle.fingerprints():
            return True
        if certificate.addresses != workload.addresses:
            return True
        return self._clock().timestamp() >= certificate.renew_at

    def unable(self) -> str | None:
        """Why no certificate can be signed at present; None: it can."""
        root = self._authority.signing_root
        if self._clock() < root.not_valid_after_utc:
            return None
        return f"the authority expired at {root.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"

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
        try:
            await self.give(record, control)
            self._roster.save()
        except JfeError as error:
            record.uncertified = str(error)
            self._log.error("certificate not renewed", extra=fields(workload=record.workload.id, error=str(error)))
        else:
            self._log.info("certificate renewed", extra=fields(workload=record.workload.id))
