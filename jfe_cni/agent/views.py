"""What the API shows: the agent's parts put together into reports."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata

from jfe_cni.agent.directory import Directory
from jfe_cni.agent.explain import Caller, Destination, explain
from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuer import Issuer
from jfe_cni.agent.passed import PassedTraffic
from jfe_cni.agent.reports import (
    AuthorityReport,
    DirectoryReport,
    ExplainReport,
    RootReport,
    RulesReport,
    StatusReport,
    WorkloadReport,
)
from jfe_cni.agent.roster import Record, Roster, report
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.identity.bundle import fingerprint


class Views:
    """`troubles` gives what is wrong beyond single workloads, a sentence each."""

    def __init__(
        self,
        *,
        node: str,
        roster: Roster,
        passed: PassedTraffic,
        directory: Directory,
        installation: Installation,
        supervisor: Supervisor,
        issuer: Issuer,
        troubles: Callable[[], list[str]],
    ) -> None:
        self._node = node
        self._roster = roster
        self._passed = passed
        self._directory = directory
        self._installation = installation
        self._supervisor = supervisor
        self._issuer = issuer
        self._troubles = troubles

    async def status(self) -> StatusReport:
        await self._passed.read_all()
        supervisor = self._supervisor
        return StatusReport(
            node=self._node,
            version=version(),
            trust_domain=str(self._issuer.trust_domain),
            agent_pid=os.getpid(),
            upgrader_pid=supervisor.pid if supervisor.connected else None,
            upgrader_connected=supervisor.connected,
            upgrader_restarts=supervisor.restarts,
            # The daemon answers nobody before it has proved them.
            rules_proven=True,
            workloads=tuple(self._roster.reports()),
            directory_entries=len(self._directory.merged()),
            authority_expires=self._issuer.bundle.roots[0].not_valid_after_utc.timestamp(),
            troubles=tuple(self._troubles() + ([supervisor.trouble] if supervisor.trouble else [])),
        )

    async def workload(self, workload: str) -> WorkloadReport:
        await self._passed.read_all()
        return report(self._roster.get(workload))

    async def rules(self, workload: str | None) -> list[RulesReport]:
        """A report a table: one for each namespace, one for all host workloads together."""
        records = [self._roster.get(workload)] if workload is not None else list(self._roster)
        reports: dict[tuple[str, int], RulesReport] = {}
        for record in records:
            rules = await self._rules_of(record)
            if rules is not None:
                shared = 0 if record.workload.shape == "host" else record.namespace.identity.inode
                reports.setdefault((rules.name, shared), rules)
        return list(reports.values())

    async def _rules_of(self, record: Record) -> RulesReport | None:
        async with record.lock:
            ruleset = self._installation.ruleset(record.workload)
            if ruleset is None:
                return None
            missing = await self._installation.check(record)
        name = f"{ruleset.family} {ruleset.table}"
        return RulesReport(name, ruleset.workloads, ruleset.text, not missing, missing)

    def explain(self, destination: Destination, workload: str | None) -> list[ExplainReport]:
        records = [self._roster.get(workload)] if workload is not None else list(self._roster)
        return [explain(_caller(record), self._directory, destination) for record in records]

    def directory(self) -> list[DirectoryReport]:
        entries = sorted(self._directory.merged().values(), key=lambda e: (e.network.version, e.network, e.port or 0))
        return [
            DirectoryReport(str(e.network), e.port, e.identity, e.cover, e.excluded_ports, e.source) for e in entries
        ]

    def authority(self) -> AuthorityReport:
        bundle = self._issuer.bundle
        roots = tuple(
            RootReport(
                fingerprint=fingerprint(root),
                subject=root.subject.rfc4514_string(),
                not_before=root.not_valid_before_utc.timestamp(),
                not_after=root.not_valid_after_utc.timestamp(),
                signs=root == bundle.roots[0],
            )
            for root in bundle.roots
        )
        return AuthorityReport(str(self._issuer.trust_domain), self._issuer.phase, roots, bundle.pem())


def _caller(record: Record) -> Caller:
    workload = record.workload
    return Caller(workload.id, workload.mode, workload.settings, workload.addresses)


def version() -> str:
    """The installed package's version; a checkout that was never installed has none."""
    try:
        return metadata.version("jfe-cni")
    except metadata.PackageNotFoundError:
        return "unknown"
