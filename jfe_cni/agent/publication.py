"""Keeps the upgrader's copy of the directory equal to the agent's, by what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jfe_cni.agent import messages
from jfe_cni.agent.control import Control
from jfe_cni.agent.directory import Directory, Key, delta
from jfe_cni.agent.objects import DirectoryEntry

# An entry is some 200 bytes of JSON; so many stay well below the frame's limit of 16 MiB, and hold nobody up.
_ENTRIES_A_FRAME = 10_000


class Publication:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._control: Control | None = None
        self._sent: dict[Key, DirectoryEntry] = {}
        self._publishing = asyncio.Lock()

    async def begin(self, control: Control) -> None:
        """A new connection, within its snapshot: everything is said, and what is not said is forgotten there."""
        self._control, self._sent = control, {}
        await self.publish()

    async def publish(self) -> None:
        """Says what has changed since the last time. Without an upgrader nothing: the next one is told everything.

        Raises UpgraderError; then the same is said again with the next change."""
        async with self._publishing:
            if self._control is None or self._control.closed.is_set():
                return
            wanted = self._directory.merged()
            change = delta(self._sent, wanted)
            for part in _parts(change.removed):
                messages.expect_done(await self._control.ask(messages.remove_directory(part)))
            for part in _parts(change.put):
                messages.expect_done(await self._control.ask(messages.add_directory(part)))
            self._sent = wanted


def _parts(entries: Sequence[DirectoryEntry]) -> list[Sequence[DirectoryEntry]]:
    return [entries[at : at + _ENTRIES_A_FRAME] for at in range(0, len(entries), _ENTRIES_A_FRAME)]
