"""Whether a network's drop-in is honoured: known from the calls that have reached the agent by it.

The configuration does not tell (libcni honours drop-ins from 1.3 on, and a runtime has the libcni that it was built
with), so the runtime's behaviour does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from jfe_cni.agent.client import AgentClient
from jfe_cni.cni.way import Evidence
from jfe_cni.errors import JfeError

# A rival may make us look twenty times a second; the agent need not be asked as often.
ASK_SECONDS = 0.5


class Witness:
    """What was proven stays so: an agent that is restarted has forgotten it, and the runtime is the same."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._proven: set[str] = set()
        self._answered = False
        self._asked: float | None = None

    async def evidence(self, network: str) -> Evidence:
        """PROVEN, UNPROVEN or UNKNOWN. Asks the agent at most every `ASK_SECONDS`."""
        now = asyncio.get_running_loop().time()
        if network not in self._proven and (self._asked is None or now - self._asked >= ASK_SECONDS):
            self._asked = now
            await self._ask()
        if network in self._proven:
            return Evidence.PROVEN
        return Evidence.UNPROVEN if self._answered else Evidence.UNKNOWN

    async def _ask(self) -> None:
        try:
            async with AgentClient(self._socket) as agent:
                self._proven.update((await agent.cni_calls()).drop_in)
        except JfeError:
            # Down, starting, or of a version that does not tell: the entry in the list stays, which needs no proof.
            self._answered = False
        else:
            self._answered = True
