"""Keeps the upgrader's copy of the directory equal to the agent's, by what changed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence

from jfe_cni.agent import messages
from jfe_cni.agent.control import Control
from jfe_cni.agent.directory import Directory, Key, delta
from jfe_cni.agent.objects import DirectoryEntry

# An entry is some 200 bytes of JSON, with long lists up to 10,000. So many entries, and so many bytes, stay well below
# the frame's limit of 16 MiB, and hold nobody up.
_ENTRIES_A_FRAME = 10_000
_BYTES_A_FRAME = 4 * 1024 * 1024


class Publication:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._control: Control | None = None
        self._sent: dict[Key, DirectoryEntry] = {}
        # What may be other there than here.
        self._due: set[Key] = set()
        self._publishing = asyncio.Lock()

    async def begin(self, control: Control) -> None:
        """A new connection, within its snapshot: everything is said, and what is not said is forgotten there."""
        self._control, self._sent = control, {}
        self._due = set(self._directory.merged())
        await self.publish()

    async def publish(self) -> None:
        """Says what has changed since the last time. Without an upgrader nothing: the next one is told everything.

        Raises UpgraderError; then what was not answered is said again with the next change."""
        async with self._publishing:
            control, sent = self._control, self._sent
            if control is None or control.closed.is_set():
                return
            self._due |= self._directory.take_touched()
            due = self._due
            change = delta({key: sent[key] for key in due if key in sent}, self._directory.those_of(due))
            for part in parts(change.removed):
                sent.update(_in_doubt(part))
                messages.expect_done(await control.ask(messages.remove_directory(part)))
                for entry in part:
                    del sent[entry.key]
            for part in parts(change.put):
                sent.update(_in_doubt(part))
                messages.expect_done(await control.ask(messages.add_directory(part)))
                sent.update({entry.key: entry for entry in part})
            # Unless a new connection has begun meanwhile, for which it is still due.
            if self._due is due:
                self._due = set()


def _in_doubt(part: Iterable[DirectoryEntry]) -> dict[Key, DirectoryEntry]:
    """What was said and not answered, be it that the caller was cancelled: like no entry that can be wanted, so that
    whatever is wanted of it next is said."""
    return {entry.key: dataclasses.replace(entry, source="in doubt") for entry in part}


def parts(entries: Sequence[DirectoryEntry]) -> Iterator[list[DirectoryEntry]]:
    """The entries in order, each part of them fit for one frame."""
    part: list[DirectoryEntry] = []
    size = 0
    for entry in entries:
        more = len(json.dumps(entry.as_json()))
        if part and (len(part) == _ENTRIES_A_FRAME or size + more > _BYTES_A_FRAME):
            yield part
            part, size = [], 0
        part.append(entry)
        size += more
    if part:
        yield part
