"""How long what was taken is kept: by age, and by number. Where there is too much, it goes of whoever has most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, select, true, update

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver import announcements
from jfe_cni.overflowd.receiver.domains import registrable
from jfe_cni.overflowd.receiver.schema import forgotten, notices, pins

TOGETHER = 10_000
"""Rows of one transaction: nobody who wants to write waits for longer than that takes; and a statement of SQLite has
32,766 variables at most (sqlite.org/limits.html, 9)."""

MOST_FORGOTTEN = 65_536
"""Keys that are pinned no longer. By number, not by age: the clock may be wrong just now."""

_of = notices.c


def prune(connection: Connection, now: Microseconds, age: Microseconds, most: int) -> int:
    """Removes the oldest of those that are too old or too many, `TOGETHER` at most. How many."""
    old = select(_of.number).where(_of.taken < now - age).order_by(_of.taken).limit(TOGETHER)
    gone = _remove(connection, _of.number.in_(old))
    for of_these, count in _too_many(connection, most, TOGETHER - gone):
        oldest = select(_of.number).where(of_these).order_by(_of.number).limit(count)
        gone += _remove(connection, _of.number.in_(oldest))
    announcements.prune(connection)
    _prune_forgotten(connection)
    return gone


def _too_many(connection: Connection, most: int, together: int) -> Iterator[tuple[Any, int]]:
    """Of which, how many are to go: nobody has fewer for another's having many."""
    kept = connection.execute(select(func.count()).select_from(notices)).scalar_one()
    if together <= 0 or kept <= most:
        return
    domains: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for domain, count in connection.execute(select(_of.domain, func.count()).group_by(_of.domain)).all():
        domains.setdefault(registrable(domain), []).append(domain)
        counts[registrable(domain)] += count
    if len(counts) > most:
        yield true(), min(kept - most, together)
        return
    for name, count in excess(counts, most).items():
        if together > 0:
            yield _of.domain.in_(domains[name][:TOGETHER]), min(count, together)
            together -= count


def excess(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Of each the part above a level that is the same for all, so that `most` are left, or a few more; those of most
    first."""
    left, ascending = most, sorted(counts.items(), key=lambda each: each[1])
    level = 0
    for place, (_, count) in enumerate(ascending):
        level = -(-left // (len(ascending) - place))
        if count > level:
            break
        left -= count
    return {name: count - level for name, count in reversed(ascending) if count > level}


def _remove(connection: Connection, which: Any) -> int:
    # Asked for once, by number: nothing is gone that is not remembered.
    going = connection.execute(select(_of.number).where(which)).scalars().all()
    if going:
        these = _of.number.in_(going)
        _remember(connection, these)
        connection.execute(delete(notices).where(these))
    return len(going)


def _remember(connection: Connection, gone: Any) -> None:
    """None of them is news again: however old it seems, for the clock may be wrong just now."""
    youngest = select(_of.domain, _of.key, func.max(_of.made).label("made")).where(gone).group_by(_of.domain, _of.key)
    for domain, key, made in connection.execute(youngest).all():
        for of, where in ((pins, pins.c.forgotten), (forgotten, forgotten.c.made)):
            of_key = (of.c.domain == domain) & (of.c.key == key) & (where < made)
            connection.execute(update(of).where(of_key).values({where.name: made}))


def _prune_forgotten(connection: Connection) -> None:
    of = forgotten.c
    made = connection.execute(select(of.made).order_by(of.made.desc()).offset(MOST_FORGOTTEN).limit(1)).scalar()
    if made is not None:
        connection.execute(delete(forgotten).where(of.made <= made))
