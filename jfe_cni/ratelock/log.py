"""The log's canonical text and its chain: each entry's hash covers the one before, so that nothing can be changed, left
out, put in or moved without all that follows changing too. Pure.

Who can write to the store can compute the whole chain anew from some entry on; the signed checkpoints
(`checkpoints.py`), kept elsewhere, tell that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.store import LogEntry, OwnerAct

# What the first entry has for the hash of the one before.
GENESIS = bytes(32)

# To name what was done to the entries that follow a gap and were given new numbers, their old ones are tried.
_MOST_RENUMBERED = 64

_JSON = json.JSONEncoder(separators=(",", ":"))

Damage = Literal["changed", "left out", "inserted", "reordered", "cut off"]


@dataclass(frozen=True)
class Anchor:
    """An entry's number and hash, and its time, known from elsewhere (a checkpoint whose signature was verified)."""

    number: int
    hash: bytes
    at: Microseconds


@dataclass(frozen=True)
class Break:
    """The first place where the log is not what was written. `number`: the entry that is damaged, missing or too many;
    `last`: of the stretch where it must lie (the same number where it is known exactly)."""

    number: int
    last: int
    damage: Damage

    def __str__(self) -> str:
        where = f"entry {self.number}" if self.number == self.last else f"entries {self.number} to {self.last}"
        return f"{where}: {self.damage}"


@dataclass(frozen=True)
class LogVerdict:
    """`entries`: how many are as they were written, from the first on. `head`: the last of them. `anchored`: the number
    of the newest checkpoint that the log agrees with; what follows it is vouched for by the chain alone."""

    entries: int
    head: Anchor
    anchored: int
    broken: Break | None


def canonical(number: int, at: Microseconds, act: OwnerAct) -> bytes:
    """One line of JSON in ASCII: [number, at, actor, event, subject, detail]. No two entries have the same."""
    return _JSON.encode([number, at, act.actor, act.event, act.subject, act.detail]).encode()


def chained(previous: bytes, number: int, at: Microseconds, act: OwnerAct) -> LogEntry:
    digest = hashlib.sha256(previous + canonical(number, at, act)).digest()
    return LogEntry(number, at, act.actor, act.event, act.subject, act.detail, previous, digest)


async def verify(entries: AsyncIterator[LogEntry], anchors: Sequence[Anchor] = ()) -> LogVerdict:
    """`entries`: all of them, from the first on, in the order in which they are kept."""
    known = {anchor.number: anchor for anchor in anchors}
    good = Anchor(0, GENESIS, 0)
    anchored = 0
    async for entry in entries:
        if not _follows(entry, good):
            following = [each async for each in _first(entries, 2)]
            # Who rewrites an entry together with its hash is found out by the next one.
            broken = _diagnosed(good, entry, following)
            return LogVerdict(min(good.number, broken.number - 1), good, anchored, broken)
        anchor = known.get(entry.number)
        if anchor is not None and (anchor.hash, anchor.at) != (entry.hash, entry.at):
            return LogVerdict(anchored, good, anchored, Break(anchored + 1, entry.number, "changed"))
        anchored = entry.number if anchor is not None else anchored
        good = Anchor(entry.number, entry.hash, entry.at)
    newest = max(known, default=0)
    broken_off = Break(good.number + 1, newest, "cut off") if newest > good.number else None
    return LogVerdict(good.number, good, anchored, broken_off)


async def _first(entries: AsyncIterator[LogEntry], count: int) -> AsyncIterator[LogEntry]:
    for _ in range(count):
        try:
            yield await anext(entries)
        except StopAsyncIteration:
            return


def _act(entry: LogEntry) -> OwnerAct:
    return OwnerAct(entry.actor, entry.event, entry.subject, entry.detail)


def _sound(entry: LogEntry, number: int) -> bool:
    """Whether it is as it was written under this number."""
    return chained(entry.previous, number, entry.at, _act(entry)).hash == entry.hash


def _follows(entry: LogEntry, good: Anchor) -> bool:
    return (
        entry.number == good.number + 1
        and entry.previous == good.hash
        and entry.at >= good.at
        and _sound(entry, entry.number)
    )


def _diagnosed(good: Anchor, entry: LogEntry, following: Sequence[LogEntry]) -> Break:
    """What was done where `entry` does not follow `good`, by what the neighbours say of each other."""
    expected = good.number + 1
    after = following[0] if following else None
    if after is not None and after.previous == good.hash:
        # The next one takes the place of this one: this one was put in, or the two were exchanged.
        exchanged = entry.previous == after.hash
        return Break(expected, expected + 1 if exchanged else expected, "reordered" if exchanged else "inserted")
    if entry.number < expected or (after is not None and after.number <= entry.number):
        return Break(expected, max(expected, entry.number), "reordered")
    if entry.number > expected:
        missing = Break(expected, entry.number - 1, "left out")
        moved = any(each.number == expected for each in following)
        return Break(expected, entry.number, "reordered") if moved else missing
    if entry.previous == good.hash:
        return Break(expected, expected, "changed")
    for skipped in range(1, _MOST_RENUMBERED + 1):
        if _sound(entry, entry.number + skipped):
            return Break(expected, expected + skipped - 1, "left out")
    if any(each.previous == good.hash for each in following):
        return Break(expected, expected, "inserted")
    if _sound(entry, entry.number) and good.number > 0 and (after is None or after.previous == entry.hash):
        return Break(good.number, good.number, "changed")
    return Break(expected, expected, "changed")
