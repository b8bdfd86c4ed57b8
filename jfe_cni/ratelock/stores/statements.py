"""Statements compiled once and given to the driver: what every attempt runs is spared a look into SQLAlchemy's caches,
and may be sent in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

from jfe_cni.ratelock.stores.schema import Exact, exact

Values = Mapping[str, Any]


class Statement:
    """`keys`: the columns and bound parameters that get values when it runs."""

    def __init__(self, statement: ClauseElement, keys: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(keys))
        self.text = str(compiled)
        # SQLite's parameters go by position, PostgreSQL's by name.
        order: Sequence[str] | None = compiled.positiontup if compiled.positional else None  # type: ignore[attr-defined]
        self._positional = order is not None
        self._fixed = {name: value for name, value in (compiled.params or {}).items() if name not in keys}
        types = {name: bound.type for bound, name in compiled.bind_names.items()}  # type: ignore[attr-defined]
        names = types if order is None else order
        self._parameters = [(name, isinstance(types[name], Exact)) for name in names]

    def parameters(self, values: Values) -> Sequence[Any] | Values:
        given = {**self._fixed, **values} if self._fixed else values
        if self._positional:
            return [_kept(given[name]) if text else given[name] for name, text in self._parameters]
        return {name: _kept(given[name]) if text else given[name] for name, text in self._parameters}


def _kept(value: str | None) -> str | None:
    return None if value is None else exact(value)


class Statements:
    """For statements that live as long as the program: each is compiled at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[tuple[ClauseElement, tuple[str, ...]], Statement] = {}

    def run(self, driver: DBAPIConnection, statement: ClauseElement, rows: Sequence[Values]) -> DBAPICursor:
        """Once for each row of values, on the driver's own connection. Raises the driver's own errors, in pipeline mode
        perhaps later."""
        keys = tuple(rows[0])
        compiled = self._compiled.get((statement, keys))
        if compiled is None:
            compiled = self._compiled[statement, keys] = Statement(statement, keys, self._dialect)
        cursor = driver.cursor()
        parameters: Any = [compiled.parameters(row) for row in rows]
        if len(rows) == 1:
            cursor.execute(compiled.text, parameters[0])
        else:
            cursor.executemany(compiled.text, parameters)
        return cursor
