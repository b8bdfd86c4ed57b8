"""How long what was taken is kept: by age, and by number."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, or_, select, update

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.freshness import OLDEST
from jfe_cni.overflowd.receiver.schema import announced, notices, pins

TOGETHER = 10_000
"""Rows of one transaction: nobody who wants to write waits for longer than that takes."""


def prune(connection: Connection, now: Microseconds, age: Microseconds, most: int) -> int:
    """Removes the oldest of those that are too old or too many, `TOGETHER` at most. How many."""
    of = notices.c
    number_of_first_too_many = select(of.number).order_by(of.number.desc()).offset(most).limit(1)
    last = connection.execute(number_of_first_too_many).scalar()
    unwanted = or_(of.taken < now - age, of.number <= (0 if last is None else last))
    going = connection.execute(select(of.number).where(unwanted).order_by(of.number).limit(TOGETHER)).scalars().all()
    connection.execute(delete(announced).where(announced.c.at < now - age))
    if not going:
        return 0
    # `unwanted` once more: with numbers alone, one that came before another and was taken after it, by a clock that was
    # set back, would go with it.
    gone = (of.number <= going[-1]) & unwanted
    _remember(connection, now, gone)
    return connection.execute(delete(notices).where(gone)).rowcount


def _remember(connection: Connection, now: Microseconds, gone: object) -> None:
    """None of them is news again."""
    of = notices.c
    youngest = (
        select(of.domain, of.key, func.max(of.made).label("made"))
        .where(gone, of.made > now - OLDEST)  # type: ignore[arg-type]
        .group_by(of.domain, of.key)
    )
    for domain, key, made in connection.execute(youngest).all():
        of_key = (pins.c.domain == domain) & (pins.c.key == key) & (pins.c.forgotten < made)
        connection.execute(update(pins).where(of_key).values(forgotten=made))
