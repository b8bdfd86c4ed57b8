"""Which webhook was told of what, so that each is told once: by all replicas, over restarts, however long it goes on.

A flood has a name, and is the same as the one that was told of by that name if it began before that one had been quiet
for `QUIET`: where it began, no two that follow it need to agree, nor one before and after a start. Who tells of it has
claimed it until some time, so that another does if it is killed before it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.aggregation import QUIET
from jfe_cni.overflowd.receiver.kept import Announcement
from jfe_cni.overflowd.receiver.schema import announcements

MOST_KEPT = 65_536
"""By number, not by age: a clock that was set forward for a moment would have all of it told again."""

_of = announcements.c


def told(connection: Connection, webhook: str, since: Mapping[str, Microseconds]) -> frozenset[str]:
    """Of those, `since` by name."""
    found = connection.execute(
        select(_of.name, _of.last).where(_of.webhook == webhook, _of.until == 0, _of.name.in_(since))
    )
    return frozenset(name for name, last in found if since[name] <= last + QUIET)


def claim(
    connection: Connection, insert: Any, webhook: str, one: Announcement, now: Microseconds, until: Microseconds
) -> bool:
    """Whether it is to be told by whoever asks. `insert`: of the database's dialect, into that table."""
    put = insert.values(name=one.name, webhook=webhook, last=one.last, until=until)
    another = _of.last < one.since - QUIET
    given_up = (_of.until > 0) & (_of.until <= now)
    put = put.on_conflict_do_update(
        index_elements=[_of.name, _of.webhook], set_={"last": one.last, "until": until}, where=another | given_up
    )
    return connection.execute(put.returning(_of.name)).first() is not None


def settle(connection: Connection, webhook: str, name: str, until: Microseconds) -> None:
    """It is told. `until`: as it was claimed."""
    connection.execute(update(announcements).where(_is(webhook, name, until)).values(until=0))


def release(connection: Connection, webhook: str, name: str, until: Microseconds) -> None:
    """It is not: another may."""
    connection.execute(delete(announcements).where(_is(webhook, name, until)))


def _is(webhook: str, name: str, until: Microseconds) -> Any:
    return (_of.webhook == webhook) & (_of.name == name) & (_of.until == until)


def go_on(connection: Connection, going: Sequence[Announcement]) -> None:
    """Where they were told."""
    same = (_of.name == bindparam("of")) & (_of.last >= bindparam("least")) & (_of.last < bindparam("now"))
    rows = [{"of": one.name, "least": one.since - QUIET, "now": one.last} for one in going]
    connection.execute(update(announcements).where(same).values(last=bindparam("now")), rows)


def prune(connection: Connection) -> None:
    last = connection.execute(select(_of.last).order_by(_of.last.desc()).offset(MOST_KEPT).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(announcements).where(_of.last <= last))
