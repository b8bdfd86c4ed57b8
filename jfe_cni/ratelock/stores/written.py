"""What a transaction writes, and the statements that write its attempts, its entries in the log and the head as one: on
PostgreSQL each costs this process more than it costs the server. By value where it is little; arrays, which the driver
is slow to make (a tenth of a lone attempt), where it is much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, BindParameter, ClauseElement, Column, Table, Text, bindparam, func, insert, select, update
from sqlalchemy.sql.selectable import CTE

from jfe_cni.ratelock.store import LogEntry
from jfe_cni.ratelock.stores.schema import Exact, attempts, exact, head, log
from jfe_cni.ratelock.stores.statements import Values

UPDATE_HEAD = update(head).where(head.c.id == 1)

MOST_BY_VALUE = 4
"""Attempts: one charged to as many meters that have a budget."""


@dataclass(frozen=True)
class Written:
    """Rows of `attempts`, entries of the log, other statements, once for each of their rows of values, and the new
    head."""

    counts: Sequence[Values]
    entries: Sequence[LogEntry]
    others: Sequence[tuple[ClauseElement, Sequence[Values]]]
    head: Values


@cache
def by_value(counts: int) -> ClauseElement:
    """So many attempts, and one entry. Takes `values_of`."""
    statement = UPDATE_HEAD.add_cte(_values(log, 1))
    return statement.add_cte(_values(attempts, counts)) if counts else statement


def values_of(written: Written) -> Values:
    rows = ((log, [vars(entry) for entry in written.entries]), (attempts, written.counts))
    values = dict(written.head)
    for table, some in rows:
        for number, row in enumerate(some):
            for name, value in row.items():
                values[_parameter(table, name, number)] = value
    return values


def arrays_of(written: Written) -> Values:
    values = dict(written.head)
    for column, rows in _columns(written):
        found = [row[column.name] for row in rows]
        values[_parameter(column.table, column.name)] = [*map(exact, found)] if _is_exact(column) else found
    return values


def _columns(written: Written) -> Iterator[tuple[Column[Any], Sequence[Values]]]:
    for table, rows in ((attempts, written.counts), (log, [vars(entry) for entry in written.entries])):
        for column in table.columns:
            yield column, rows


def _values(table: Table, rows: int) -> CTE:
    names = [each.name for each in table.columns]
    given = [
        {name: bindparam(_parameter(table, name, row), type_=table.c[name].type) for name in names}
        for row in range(rows)
    ]
    return insert(table).values(given).cte(f"new_{table.name}")


def _unnested(table: Table) -> CTE:
    """As many rows as the arrays are long that are given for its columns."""
    names = [each.name for each in table.columns]
    given = func.unnest(*(_array(each) for each in table.columns)).table_valued(*names).render_derived()
    return insert(table).from_select(names, select(given)).cte(f"new_{table.name}")


def _array(column: Column[Any]) -> BindParameter[Any]:
    element = Text() if _is_exact(column) else column.type
    return bindparam(_parameter(column.table, column.name), type_=ARRAY(element))


def _parameter(table: Table, column: str, row: int | None = None) -> str:
    return f"{table.name}_{column}" if row is None else f"{table.name}_{column}_{row}"


def _is_exact(column: Column[Any]) -> bool:
    return isinstance(column.type, Exact)


BY_ARRAY: ClauseElement = UPDATE_HEAD.add_cte(_unnested(attempts), _unnested(log))
"""Any number of attempts and entries. Takes `arrays_of`."""
