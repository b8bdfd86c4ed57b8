"""Certificates that are due, and workloads that stayed closed for want of one. Apart from upkeep: whoever signs may be
slow, or away, and nothing else is to wait for that."""

from __future__ import annotations

import asyncio
import logging

from jfe_cni.agent.issuance import Issuance
from jfe_cni.agent.issuer import Issuer
from jfe_cni.agent.log import fields
from jfe_cni.agent.supervisor import Supervisor
from jfe_cni.agent.takeover import Takeover
from jfe_cni.errors import JfeError

PERIOD_SECONDS = 5.0


class Renewal:
    def __init__(
        self, issuer: Issuer, issuance: Issuance, takeover: Takeover, supervisor: Supervisor, log: logging.Logger
    ) -> None:
        self._issuer = issuer
        self._issuance = issuance
        self._takeover = takeover
        self._supervisor = supervisor
        self._log = log

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._renew()
            await asyncio.sleep(PERIOD_SECONDS)

    async def _renew(self) -> None:
        try:
            await self._issuer.reload()
            if self._supervisor.connected:
                control = await self._supervisor.control()
                await self._takeover.bring_left(control)
                await self._issuance.renew_due(control)
        except JfeError as error:
            self._log.error("certificates not renewed", extra=fields(error=str(error)))
