"""Whether a workload is under cover as its enrolment left it: everything is looked at anew, in the kernel itself."""

from __future__ import annotations

from jfe_cni.agent.installation import Installation
from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.roster import Record
from jfe_cni.agent.workload import State, Workload
from jfe_cni.errors import JfeError
from jfe_cni.kernel.ground import KernelGround


class Examination:
    def __init__(self, ground: KernelGround, installation: Installation, issuance: Issuance) -> None:
        self._ground = ground
        self._installation = installation
        self._issuance = issuance

    async def amiss(self, record: Record) -> tuple[str, ...]:
        """What is not as it should be, a sentence each: rules, policy routing, listeners, certificate. Nothing is
        mended by it."""
        async with record.lock:
            workload = record.workload
            if workload.state is not State.COVERED:
                return (": ".join(filter(None, (f"{workload.id} is {workload.state.value}", workload.trouble))),)
            try:
                return (
                    *await self._installation.check(record),
                    *await self._listeners_amiss(record),
                    *await self.certificate_amiss(record),
                )
            except JfeError as error:
                return (str(error),)

    async def _listeners_amiss(self, record: Record) -> tuple[str, ...]:
        wanted = record.workload.listeners
        if wanted is None:
            return ("the upgrader has no listener in it",)
        listening = await self._ground.upgrader_listening(record.namespace)
        ports = {"outbound": wanted.outbound, "inbound": wanted.inbound}
        return tuple(
            f"the upgrader does not listen on its {way} port {port}"
            for way, port in ports.items()
            if port not in listening
        )

    async def certificate_amiss(self, record: Record) -> tuple[str, ...]:
        """For who holds the record's lock."""
        workload = record.workload
        found: list[str] = []
        if self._issuance.expired(workload):
            found.append("its certificate has expired")
        addresses = await self._ground.addresses(record.namespace)
        named = _named(workload)
        if addresses - named:
            found.append(f"its certificate does not name {', '.join(sorted(map(str, addresses - named)))}")
        return tuple(found)


def _named(workload: Workload) -> frozenset[object]:
    return frozenset() if workload.certificate is None else frozenset(workload.certificate.addresses)
