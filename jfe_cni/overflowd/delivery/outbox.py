"""The outbox: a copy of a notice that was put is sent or accounted for, over restarts, and sent at most once.

Before anything of a copy leaves, its row says that it is being sent, and by whom. A row that says so, and whose
collector has not been heard of for `LEASE`, was interrupted, and nobody knows how far: it is accounted for as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sqlalchemy import Connection, Insert, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.counts import Counts
from jfe_cni.overflowd.delivery.database import Database, now
from jfe_cni.overflowd.delivery.outcomes import ENDED, Broken, Outcome, State
from jfe_cni.overflowd.delivery.schema import copies
from jfe_cni.overflowd.notices.notice import Notice, encode
from jfe_cni.overflowd.notices.notice import copies as copies_of

LEASE: Microseconds = 30 * 1_000_000
"""Three times as long as a collector takes, at most, to say that it is still there (`courier.UPKEEP`)."""

_INTERRUPTED = Outcome(State.UNKNOWN, Broken.INTERRUPTED)
_OUTNUMBERED = Outcome(State.DROPPED, Broken.OUTNUMBERED)
# Rows that go in one transaction, and variables of one statement: SQLite has 32,766 (sqlite.org/limits.html).
_TOGETHER = 10_000


@dataclass(frozen=True)
class Claimed:
    """A copy that this collector, and no other, may send. `notice`: as it was written. `age`: since it was put."""

    id: int
    address: Address
    notice: bytes
    age: Microseconds


class Outbox:
    """`collector`: its name, of no other that runs on the same database. `most_waiting`: copies. `retention`: of what
    has ended."""

    def __init__(
        self, database: Database, counts: Counts, collector: str, most_waiting: int, retention: Microseconds
    ) -> None:
        self._database = database
        self._counts = counts
        self._collector = collector
        self._most_waiting = most_waiting
        self._retention = retention
        self._held: set[int] = set()
        self.arrived = asyncio.Event()
        """Set when copies were put here; whoever waits for it clears it."""

    async def put(self, notices: Sequence[Notice]) -> None:
        """Durable when it returns: a row for each copy, once, however often it is put. Raises StoreError."""
        rows = [
            {
                "nonce": copy.nonce,
                "to_end": copy.to.value,
                "address": str(address),
                "notice": encode(copy),
                "state": State.WAITING,
            }
            for notice in notices
            for address, copy in copies_of(notice)
        ]
        if not rows:
            return

        def work(connection: Connection) -> int:
            at = now(connection)
            connection.execute(_insert(connection), [{**row, "put_at": at, "changed_at": at} for row in rows])
            return self._drop_oldest(connection, at)

        dropped = await self._database.run(work)
        self._counts.put.inc(len(rows))
        if dropped:
            self._counts.ended(_OUTNUMBERED, dropped)
        self.arrived.set()

    async def claim(self, most: int) -> Sequence[Claimed]:
        """The oldest that wait, and that no other collector has. They are being sent from now on."""

        def work(connection: Connection) -> Sequence[Claimed]:
            at = now(connection)
            wanted = select(copies).where(copies.c.state == State.WAITING).order_by(copies.c.id).limit(most)
            rows = connection.execute(wanted.with_for_update(skip_locked=True)).all()
            held = {"state": State.SENDING, "holder": self._collector, "held_until": at + LEASE, "changed_at": at}
            if rows:
                connection.execute(update(copies).where(copies.c.id.in_([row.id for row in rows])).values(held))
            return [Claimed(row.id, ip_address(row.address), row.notice, at - row.put_at) for row in rows]

        claimed = await self._database.run(work)
        self._held.update(each.id for each in claimed)
        return claimed

    async def end(self, claimed: Claimed, outcome: Outcome) -> None:
        """Accounts for it. Where it was accounted for already, as interrupted, it stays so."""
        if await self._leave(claimed, outcome.state, outcome):
            self._counts.ended(outcome)

    async def give_back(self, claimed: Claimed) -> None:
        """Nothing of it was sent: it waits again."""
        await self._leave(claimed, State.WAITING, None)

    async def resume(self) -> int:
        """At the start: what a former life of this collector was sending is unknown. How many those are."""
        return await self._interrupted(mine=True)

    async def keep_up(self) -> None:
        """Says that this collector is there, accounts for what those were sending that are not, forgets what ended long
        ago. To be called several times in each `LEASE`."""
        # Those that it knows of: what a claim took, of whose commit nobody heard, is nobody's.
        held = sorted(self._held)
        await self._database.run(lambda connection: self._renew(connection, held))
        await self._interrupted(mine=False)
        await self._database.run(self._forget)
        self._counts.waiting.set(await self._database.run(_count_waiting))

    async def _leave(self, claimed: Claimed, state: State, outcome: Outcome | None) -> bool:
        mine = (copies.c.id == claimed.id, copies.c.state == State.SENDING, copies.c.holder == self._collector)
        values: dict[str, str | None] = {"state": state, "holder": None, "held_until": None}
        if outcome is not None:
            values |= {"reason": outcome.reason, "way": outcome.way}

        def work(connection: Connection) -> bool:
            leaving = update(copies).where(*mine).values(**values, changed_at=now(connection))
            return connection.execute(leaving).rowcount == 1

        left = await self._database.run(work)
        self._held.discard(claimed.id)
        return left

    async def _interrupted(self, *, mine: bool) -> int:
        def work(connection: Connection) -> int:
            at = now(connection)
            whose = copies.c.holder == self._collector if mine else copies.c.held_until < at
            left = update(copies).where(copies.c.state == State.SENDING, whose)
            values = {"state": _INTERRUPTED.state, "reason": _INTERRUPTED.reason, "held_until": None, "changed_at": at}
            return connection.execute(left.values(values)).rowcount

        many = await self._database.run(work)
        if many:
            self._counts.ended(_INTERRUPTED, many)
        return many

    def _renew(self, connection: Connection, held: Sequence[int]) -> None:
        mine = (copies.c.id.in_(held), copies.c.state == State.SENDING, copies.c.holder == self._collector)
        connection.execute(update(copies).where(*mine).values(held_until=now(connection) + LEASE))

    def _drop_oldest(self, connection: Connection, at: Microseconds) -> int:
        too_many = (
            select(copies.c.id)
            .where(copies.c.state == State.WAITING)
            .order_by(copies.c.id.desc())
            .offset(self._most_waiting)
            .limit(_TOGETHER)
            # What another collector is taking this moment waits no more.
            .with_for_update(skip_locked=True)
        )
        ids = connection.execute(too_many).scalars().all()
        if not ids:
            return 0
        values = {"state": _OUTNUMBERED.state, "reason": _OUTNUMBERED.reason, "changed_at": at}
        return connection.execute(update(copies).where(copies.c.id.in_(ids)).values(values)).rowcount

    def _forget(self, connection: Connection) -> None:
        before = now(connection) - self._retention
        ended = (
            select(copies.c.id)
            .where(copies.c.changed_at < before, copies.c.state.in_(ENDED))
            .limit(_TOGETHER)
            .with_for_update(skip_locked=True)
        )
        if ids := connection.execute(ended).scalars().all():
            connection.execute(delete(copies).where(copies.c.id.in_(ids)))


def _count_waiting(connection: Connection) -> int:
    waiting = select(func.count()).select_from(copies).where(copies.c.state == State.WAITING)
    return int(connection.execute(waiting).scalar_one())


def _insert(connection: Connection) -> Insert:
    """A copy that is there already is left as it is."""
    names = ["nonce", "to_end"]
    if connection.dialect.name == "postgresql":
        return postgresql.insert(copies).on_conflict_do_nothing(index_elements=names)
    return sqlite.insert(copies).on_conflict_do_nothing(index_elements=names)
