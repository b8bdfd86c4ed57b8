"""The pins in the store, by the rules of `pins.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from joserfc.jwk import OKPKey
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.kept import Pin
from jfe_cni.overflowd.receiver.pins import Keys, Pinning, crowded_out, pinning
from jfe_cni.overflowd.receiver.schema import changes, forgotten, pins

COARSELY: Microseconds = 3_600 * 1_000_000
"""What was used less than that ago was used last then: nothing is written for each notice."""


def of_row(row: Row[Any]) -> Pin:
    return Pin(OKPKey.import_key(json.loads(row.jwk)), row.pinned, row.forgotten, row.used, row.looked)


def pin(connection: Connection, domain: str, published: Keys, at: Microseconds) -> tuple[Pinning, Mapping[str, Pin]]:
    """And what is believed of that domain from now on. Where there is no room, others are forgotten."""
    rows = connection.execute(select(pins).where(pins.c.domain == domain)).all()
    pinned = {row.key: replace(of_row(row), looked=at) for row in rows}
    connection.execute(update(pins).where(pins.c.domain == domain).values(looked=at))
    outcome = pinning({name: each.key for name, each in pinned.items()}, published)
    if outcome is Pinning.CHANGED:
        _change(connection, domain, published, at)
        return outcome, pinned
    connection.execute(delete(changes).where(changes.c.domain == domain))
    if outcome is Pinning.SAME:
        return outcome, pinned
    if outcome is Pinning.FIRST:
        used = connection.execute(
            select(pins.c.domain, func.max(pins.c.used).label("used")).group_by(pins.c.domain)
        ).all()
        unpin(connection, sorted(crowded_out(domain, {row.domain: row.used for row in used})))
    _remember(connection, rows)
    known = {
        row.key: row.made for row in connection.execute(select(forgotten).where(forgotten.c.domain == domain)).all()
    }
    believed = {name: pinned.get(name) or Pin(key, at, known.get(name, 0), at, at) for name, key in published.items()}
    connection.execute(delete(pins).where(pins.c.domain == domain))
    connection.execute(insert(pins), [_row(domain, *each) for each in believed.items()])
    return outcome, believed


def unpin(connection: Connection, domains: Sequence[str]) -> bool:
    """Whether any was known."""
    rows = connection.execute(select(pins).where(pins.c.domain.in_(domains))).all()
    _remember(connection, rows)
    connection.execute(delete(changes).where(changes.c.domain.in_(domains)))
    connection.execute(delete(pins).where(pins.c.domain.in_(domains)))
    return bool(rows)


def use(connection: Connection, used: Mapping[str, Microseconds], kept: Mapping[str, Microseconds]) -> None:
    """`used`: as it is there; `kept`: when notices were kept just now; by domain."""
    for domain, at in kept.items():
        if at > used[domain] + COARSELY:
            connection.execute(update(pins).where(pins.c.domain == domain).values(used=at))


def _remember(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """What of it is forgotten, though its key be pinned no longer."""
    for row in rows:
        connection.execute(delete(forgotten).where((forgotten.c.domain == row.domain) & (forgotten.c.key == row.key)))
        connection.execute(insert(forgotten).values(domain=row.domain, key=row.key, made=row.forgotten))


def _change(connection: Connection, domain: str, published: Keys, at: Microseconds) -> None:
    names = json.dumps(sorted(published))
    found = connection.execute(select(changes).where(changes.c.domain == domain)).first()
    if found is None or found.keys != names:
        connection.execute(delete(changes).where(changes.c.domain == domain))
        connection.execute(insert(changes).values(domain=domain, keys=names, since=at))


def _row(domain: str, name: str, each: Pin) -> Mapping[str, Any]:
    jwk = json.dumps(each.key.as_dict(private=False))
    return {
        "domain": domain,
        "key": name,
        "jwk": jwk,
        "pinned": each.pinned,
        "forgotten": each.forgotten,
        "used": each.used,
        "looked": each.looked,
    }
