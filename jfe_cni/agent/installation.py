"""A workload's rules in the kernel: which they should be, and putting them there, by the shape of the workload."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping

from jfe_cni.agent.lent_ports import holders, yielded
from jfe_cni.agent.passed import PassedTraffic
from jfe_cni.agent.roster import Record, Roster
from jfe_cni.agent.workload import State, Workload
from jfe_cni.errors import ConflictError, KernelError, NamespaceGone
from jfe_cni.kernel.cover import Cover, Prepared
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.rules import namespace
from jfe_cni.rules.host import host_ruleset
from jfe_cni.rules.model import Exemption, HostIntent, HostWorkload, Mark, Mode, NamespaceIntent, Ruleset
from jfe_cni.rules.namespace import namespace_ruleset


class Installation:
    def __init__(
        self,
        *,
        cover: Cover,
        ground: KernelGround,
        roster: Roster,
        passed: PassedTraffic,
        mark: Mark,
        exemption: Exemption,
    ) -> None:
        self._cover = cover
        self._ground = ground
        self._roster = roster
        self._passed = passed
        self._mark = mark
        self._exemption = exemption
        # The host's workloads share one table, replaced whole.
        self._host_lock = asyncio.Lock()
        # A link that is being closed waits until what is swept has been chosen and swept.
        self._sweeping = asyncio.Lock()
        # Whose each lent port is, as of the table that was loaded last.
        self._holders: dict[int, str] = {}

    def refuse_anothers(self, record: Record, other: str | None) -> None:
        """For a workload that is enrolled for the first time. Raises ConflictError where its namespace has rules of
        another (`Survey.enrolled_as`): two agents would take each other's for changed, and mend in turn. What a killed
        agent left of the same workload is taken over."""
        if record.workload.shape == "host":
            return
        if other is not None and other != record.workload.id:
            raise ConflictError(
                f"{record.namespace.origin} is under cover as {other}, by another agent",
                remedy=f"unenrol it there (jfe unenroll {other}), or, if that agent is no more: "
                f"nsenter --net={record.namespace.origin} nft delete table {namespace.FAMILY} {namespace.TABLE}",
            )

    async def prepare(self, record: Record) -> Prepared | None:
        """What can be done of `install` while the upgrader is told of the workload; for one that has its rules, what a
        new device needs. Raises KernelError, with nothing of it left that was not there before."""
        if record.workload.shape == "host":
            return None
        return await self._cover.prepare_namespace(record.workload.id, self._mark, record.namespace)

    async def install(self, record: Record, prepared: Prepared | None = None) -> None:
        """Loads the rules and looks that they are there. Raises KernelError, with nothing of the new rules left."""
        if record.workload.shape == "host":
            record.missing = await self._install_host()
        else:
            intent = self._namespace_intent(record.workload)
            if record.workload.state is not State.ENROLLING:
                await self._passed.read(record)
            record.missing = await self._cover.install_namespace(intent, record.namespace, prepared)
            record.workload = dataclasses.replace(record.workload, proof=self._cover.proof(record.namespace))
            self._passed.began_anew([record])
        record.loaded = True
        if record.missing:
            raise KernelError(f"the rules were loaded and are not there: {'; '.join(record.missing)}")

    async def check(self, record: Record) -> tuple[str, ...]:
        """What is missing, in words."""
        if record.workload.shape == "host":
            async with self._host_lock:
                intent = self._host_intent()
                return () if intent is None else await self._cover.check_host(intent)
        return await self._cover.check_namespace(self._namespace_intent(record.workload), record.namespace)

    async def stands(self, record: Record) -> bool:
        """Whether the rules that a former agent loaded are what is wanted now, and nobody has changed them since: then
        they need not be loaded again."""
        proof = record.workload.proof
        if record.workload.shape == "host" or proof is None or record.workload.listeners is None:
            return False
        if not record.loaded:
            self._cover.believe(record.namespace, proof)
        record.missing = await self.check(record)
        record.loaded = record.loaded or not record.missing
        return not record.missing

    async def remove(self, record: Record) -> None:
        """Leaves nothing of the workload's rules; one that was gone before is done."""
        if record.workload.shape == "host":
            await self._install_host()
            return
        with contextlib.suppress(NamespaceGone):
            await self._cover.remove_namespace(record.namespace, self._mark)
            await self.open_link(record)

    async def close_link(self, record: Record) -> None:
        """Strict, and with a link of its own: nothing passes until `open_link`. The host's own can't be shut."""
        if _has_link(record.workload):
            # Said before it is so: of several links some may be closed when one can't be.
            record.link_closed = True
            async with self._sweeping:
                await self._ground.close_link(record.namespace)

    async def open_link(self, record: Record) -> None:
        """An open link stays open."""
        if _has_link(record.workload):
            await self._ground.open_link(record.namespace)
        record.link_closed = False

    async def sweep_links(self) -> None:
        """Nothing closes a link but that of a workload which is closed now. What closed another may have outlived it:
        its device went, or its whole namespace."""
        async with self._sweeping:
            await self._ground.sweep_links([record.namespace for record in self._roster if record.link_closed])

    async def sync_host(self) -> None:
        """The host's table says what the roster says."""
        await self._install_host()

    async def sweep_host(self) -> None:
        """Half-done things of an agent that was killed: a host table without a workload goes."""
        if self._host_intent() is None:
            await self._cover.remove_host(self._mark)

    def ruleset(self, workload: Workload) -> Ruleset | None:
        """As text; None for a workload without rules at the moment."""
        if workload.listeners is None:
            return None
        if workload.shape == "host":
            intent = self._host_intent()
            return None if intent is None else host_ruleset(intent)
        return namespace_ruleset(self._namespace_intent(workload))

    async def _install_host(self) -> tuple[str, ...]:
        """What of it is missing in the kernel afterwards. Looked at before anybody else may load: another workload
        that is being enrolled meanwhile changes what is wanted."""
        async with self._host_lock:
            # Before the first wait: what is wanted, and who is told what, are of one moment.
            intent = self._host_intent()
            self._settle_ports()
            if intent is None:
                await self._cover.remove_host(self._mark)
                return ()
            for record in self._roster.host()[:1]:
                await self._passed.read(record)
            missing = await self._cover.install_host(intent)
            self._passed.began_anew(self._roster.host())
            return missing

    def _namespace_intent(self, workload: Workload) -> NamespaceIntent:
        if workload.listeners is None:
            raise KernelError(f"{workload.id} has no listeners: the upgrader does not know it", remedy="try again")
        return NamespaceIntent(
            workload=workload.id,
            mark=self._mark,
            outbound_port=workload.listeners.outbound,
            inbound_port=workload.listeners.inbound,
            ipv6=workload.listeners.ipv6,
            mode=Mode(workload.mode),
            exemption=self._exemption,
            bare=workload.bare,
        )

    def _settle_ports(self) -> None:
        """What `_host_intent` gives to whom is so from now on."""
        self._holders = self._lent()
        for record in self._roster.host():
            record.yielded_ports = yielded(record.workload, self._holders)

    def _lent(self) -> dict[int, str]:
        return holders(
            (record.workload for record in self._roster.host() if _has_rules(record.workload)), self._holders
        )

    def _host_intent(self) -> HostIntent | None:
        workloads = [record.workload for record in self._roster.host()]
        lent = self._lent()
        hosted = tuple(each for each in (_hosted(workload, lent) for workload in workloads) if each is not None)
        if not hosted:
            return None
        ipv6 = all(each.listeners.ipv6 for each in workloads if each.listeners is not None)
        return HostIntent(mark=self._mark, exemption=self._exemption, workloads=hosted, ipv6=ipv6)


def _has_link(workload: Workload) -> bool:
    return workload.mode == "strict" and workload.shape == "namespace"


def _has_rules(workload: Workload) -> bool:
    """Of the host's. A cgroup that is away can't be named in a rule (it has no number)."""
    return (
        workload.listeners is not None
        and workload.cgroup is not None
        and workload.state not in (State.RELEASING, State.ABSENT)
    )


def _hosted(workload: Workload, held: Mapping[int, str]) -> HostWorkload | None:
    """None: no rules at the moment."""
    if not _has_rules(workload) or workload.listeners is None or workload.cgroup is None:
        return None
    others = yielded(workload, held)
    return HostWorkload(
        workload=workload.id,
        cgroup=workload.cgroup,
        outbound_port=workload.listeners.outbound,
        inbound_port=workload.listeners.inbound,
        mode=Mode(workload.mode),
        listener_ports=tuple(port for port in workload.lent_ports if port not in others),
        bare=workload.bare,
    )
