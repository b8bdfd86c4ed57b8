"""The outbox: a copy of a notice that was put is sent or accounted for, over restarts, and sent at most once.

Before anything of a copy leaves, its row says that it is being sent, and by whom. A row that says so, and whose
collector has not been heard of for `LEASE`, was interrupted, and nobody knows how far: it is accounted for as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sqlalchemy import Connection, Insert, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.counts import Counts
from jfe_cni.overflowd.delivery.database import Database, now
from jfe_cni.overflowd.delivery.decisions import LONGEST_WAIT
from jfe_cni.overflowd.delivery.outcomes import ENDED, Broken, Outcome, Spared, State
from jfe_cni.overflowd.delivery.schema import copies
from jfe_cni.overflowd.notices.keys import KeyRing
from jfe_cni.overflowd.notices.notice import Notice, encode
from jfe_cni.overflowd.notices.notice import copies as copies_of

LEASE: Microseconds = 30 * 1_000_000
"""Three times as long as a collector takes, at most, to say that it is still there (`courier.UPKEEP`)."""

_INTERRUPTED = Outcome(State.UNKNOWN, Broken.INTERRUPTED)
_OUTNUMBERED = Outcome(State.DROPPED, Broken.OUTNUMBERED)
_TOO_OLD = Outcome(State.WITHHELD, Spared.TOO_OLD)
# Rows that go in one transaction, and variables of one statement: SQLite has 32,766 (sqlite.org/limits.html).
_TOGETHER = 10_000
# Notices of two copies each: what others ask of the database waits meanwhile.
_PUT_TOGETHER = 1_000


@dataclass(frozen=True)
class Claimed:
    """A copy that this collector, and no other, may send. `notice`: as it was written. `age`: since it was put."""

    id: int
    address: Address
    notice: bytes
    age: Microseconds


class Outbox:
    """`collector`: its name, of no other that runs on the same database. `ring`: the keys that it holds.
    `most_waiting`: copies. `retention`: of what has ended."""

    def __init__(
        self,
        database: Database,
        counts: Counts,
        collector: str,
        ring: KeyRing,
        most_waiting: int,
        retention: Microseconds,
    ) -> None:
        self._database = database
        self._counts = counts
        self._collector = collector
        self._most_waiting = most_waiting
        self._retention = retention
        self._held: set[int] = set()
        self.hold(ring)
        self.arrived = asyncio.Event()
        """Set when copies were put here; whoever waits for it clears it."""

    def hold(self, ring: KeyRing) -> None:
        """From now on. A notice says where its key is published: it is signed by who held the key of that time, be it
        rotated since, and by no other collector on the same database."""
        self._signer = ring.signing.thumbprint()
        self._signers = (self._signer, *(key.thumbprint() for key, _ in ring.former))

    async def put(self, notices: Sequence[Notice]) -> None:
        """Durable when it returns: a row for each copy, once, however often it is put. Raises StoreError."""
        for start in range(0, len(notices), _PUT_TOGETHER):
            await self._put(notices[start : start + _PUT_TOGETHER])
            self.arrived.set()

    async def _put(self, notices: Sequence[Notice]) -> None:
        rows = await asyncio.to_thread(_rows, notices, self._signer)

        def work(connection: Connection) -> None:
            at = now(connection)
            connection.execute(_insert(connection), [{**row, "put_at": at, "changed_at": at} for row in rows])

        await self._database.run(work)
        self._counts.put.inc(len(rows))
        while dropped := await self._database.run(self._drop_oldest):
            self._counts.ended(_OUTNUMBERED, dropped)

    async def claim(
        self, most: int, *, newest: bool = False, among: Collection[Address] | None = None
    ) -> Sequence[Claimed]:
        """The oldest that wait, or the newest, whose key this collector holds, and that no other has. They are being
        sent from now on. `among`: to these addresses; None, to any."""
        order = copies.c.id.desc() if newest else copies.c.id
        mine = [copies.c.state == State.WAITING, copies.c.signer.in_(self._signers)]
        if among is not None:
            mine.append(copies.c.address.in_([str(address) for address in among]))

        def work(connection: Connection) -> Sequence[Claimed]:
            at = now(connection)
            wanted = select(copies).where(*mine).order_by(order).limit(most)
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
        if many := await self._database.run(_give_up_too_old):
            self._counts.ended(_TOO_OLD, many)
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

    def _drop_oldest(self, connection: Connection) -> int:
        too_many = (
            select(copies.c.id)
            .where(copies.c.state == State.WAITING)
            .order_by(copies.c.id.desc())
            .offset(self._most_waiting)
            .limit(_TOGETHER)
            # What another collector is taking this moment waits no more.
            .with_for_update(skip_locked=True)
        )
        return _end_waiting(connection, connection.execute(too_many).scalars().all(), _OUTNUMBERED)

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


def _give_up_too_old(connection: Connection) -> int:
    """Of whoever put it, who may be gone for good: nobody else has its key."""
    too_old = (
        select(copies.c.id)
        .where(copies.c.state == State.WAITING, copies.c.put_at < now(connection) - LONGEST_WAIT)
        .limit(_TOGETHER)
        .with_for_update(skip_locked=True)
    )
    return _end_waiting(connection, connection.execute(too_old).scalars().all(), _TOO_OLD)


def _end_waiting(connection: Connection, ids: Sequence[int], outcome: Outcome) -> int:
    if not ids:
        return 0
    values = {"state": outcome.state, "reason": outcome.reason, "changed_at": now(connection)}
    return connection.execute(update(copies).where(copies.c.id.in_(ids)).values(values)).rowcount


def _rows(notices: Sequence[Notice], signer: str) -> list[dict[str, object]]:
    return [
        {
            "nonce": copy.nonce,
            "to_end": copy.to.value,
            "address": str(address),
            "notice": encode(copy),
            "signer": signer,
            "state": State.WAITING,
        }
        for notice in notices
        for address, copy in copies_of(notice)
    ]


def _count_waiting(connection: Connection) -> int:
    waiting = select(func.count()).select_from(copies).where(copies.c.state == State.WAITING)
    return int(connection.execute(waiting).scalar_one())


def _insert(connection: Connection) -> Insert:
    """A copy that is there already is left as it is."""
    names = ["nonce", "to_end"]
    if connection.dialect.name == "postgresql":
        return postgresql.insert(copies).on_conflict_do_nothing(index_elements=names)
    return sqlite.insert(copies).on_conflict_do_nothing(index_elements=names)
