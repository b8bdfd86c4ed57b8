"""Who is not told any more: those that asked, and, for a while, those that the network says can't be reached. In the
database, so that every collector knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import ip_network

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.answers import OptOutHeard
from jfe_cni.overflowd.delivery.database import Database, now
from jfe_cni.overflowd.delivery.decisions import LONGEST_ALONE, Alone, alone
from jfe_cni.overflowd.delivery.destinations import Network
from jfe_cni.overflowd.delivery.outcomes import Cause
from jfe_cni.overflowd.delivery.schema import left_alone
from jfe_cni.overflowd.notices.optout import WIDEST

NEIGHBOURS_FOR: Microseconds = 86_400 * 1_000_000
"""A day: who is one of many in a network proves no more than its own address, and must be told again to ask again."""

_SECOND = 1_000_000


@dataclass(frozen=True)
class LeftAlone:
    """`until`: None, until it is lifted by hand. `key`: the thumbprint of the one that asked."""

    network: Network
    cause: Cause
    since: Microseconds
    until: Microseconds | None
    key: str | None


class LeavingAlone:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def cause(self, address: Address) -> Cause | None:
        """None: it may be told. Raises StoreError."""
        longest = 32 if address.version == 4 else 128
        of = [str(ip_network((address, size), strict=False)) for size in range(WIDEST[address.version], longest + 1)]

        def work(connection: Connection) -> set[str]:
            holds = or_(left_alone.c.until.is_(None), left_alone.c.until > now(connection))
            wanted = select(left_alone.c.cause).where(left_alone.c.network.in_(of), holds)
            return set(connection.execute(wanted).scalars())

        found = await self._database.run(work)
        return next((each for each in Cause if each in found), None)

    async def ask(self, address: Address, heard: OptOutHeard) -> None:
        """Remembers what was asked for from there; the last word holds. Beside the address itself its network, where it
        speaks for that, for `NEIGHBOURS_FOR` at most."""
        asked, own = heard.asked, ip_network(address)
        network, until = asked.network(address), math.inf if asked.until is None else asked.until * _SECOND

        def work(connection: Connection) -> None:
            at = now(connection)
            latest = {own: until, network: until if network == own else min(until, at + NEIGHBOURS_FOR)}
            for each, ends in latest.items():
                end = None if ends == math.inf else int(ends)
                _replace(connection, each, Cause.ASKED, at, end, asked.key, heard.signed)

        await self._database.run(work)

    async def give_up(self, address: Address, *, confirmed: bool) -> None:
        """It can't be reached: left alone as `decisions.alone` says."""
        network = ip_network(address)
        these = _unreachable(network)

        def work(connection: Connection) -> None:
            row = connection.execute(select(left_alone.c.since, left_alone.c.until).where(these)).one_or_none()
            former = None if row is None else Alone(row.since, row.until)
            found = alone(now(connection), former, confirmed=confirmed)
            if found != former:
                _replace(connection, network, Cause.UNREACHABLE, found.since, found.until, None, None)

        await self._database.run(work)

    async def is_there(self, address: Address) -> None:
        """It has answered: that it could not be reached before counts no more."""
        these = _unreachable(ip_network(address))
        await self._database.run(lambda each: each.execute(delete(left_alone).where(these)).close())

    async def lift(self, network: Network) -> bool:
        """By hand: it is told again. Whether it was left alone."""
        these = left_alone.c.network == str(network)
        return await self._database.run(lambda each: each.execute(delete(left_alone).where(these)).rowcount > 0)

    async def all(self) -> list[LeftAlone]:
        """Those that are left alone now, the last first."""

        def work(connection: Connection) -> list[LeftAlone]:
            holds = or_(left_alone.c.until.is_(None), left_alone.c.until > now(connection))
            rows = connection.execute(select(left_alone).where(holds).order_by(left_alone.c.since.desc()))
            return [LeftAlone(ip_network(row.network), Cause(row.cause), row.since, row.until, row.key) for row in rows]

        return await self._database.run(work)

    async def keep_up(self) -> None:
        """Forgets those whose time is over; of those that could not be reached, when it says nothing of the next."""

        def work(connection: Connection) -> None:
            at = now(connection)
            asked = and_(left_alone.c.cause == Cause.ASKED, left_alone.c.until <= at)
            connection.execute(delete(left_alone).where(or_(asked, left_alone.c.until <= at - LONGEST_ALONE)))

        await self._database.run(work)


def _unreachable(network: Network) -> ColumnElement[bool]:
    return and_(left_alone.c.network == str(network), left_alone.c.cause == Cause.UNREACHABLE)


def _replace(
    connection: Connection,
    network: Network,
    cause: Cause,
    since: Microseconds,
    until: Microseconds | None,
    key: str | None,
    signed: bytes | None,
) -> None:
    row = {
        "network": str(network),
        "cause": cause,
        "until": until,
        "key": key,
        "signed": signed,
        "since": since,
    }
    new: postgresql.Insert | sqlite.Insert
    if connection.dialect.name == "postgresql":
        new = postgresql.insert(left_alone).values(row)
    else:
        new = sqlite.insert(left_alone).values(row)
    changed = {name: new.excluded[name] for name in ("until", "key", "signed", "since")}
    connection.execute(new.on_conflict_do_update(index_elements=["network", "cause"], set_=changed))
