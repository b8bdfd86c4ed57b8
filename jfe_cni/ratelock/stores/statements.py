"""Statements compiled once and given to the driver: what every attempt runs is spared a look into SQLAlchemy's caches,
and may be sent in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

from jfe_cni.ratelock.stores.schema import Exact

Values = Mapping[str, Any]


class Statement:
    """`keys`: the columns and bound parameters that get values when it runs."""

    def __init__(self, statement: ClauseElement, keys: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(keys))
        self.text = str(compiled)
        self._dialect = dialect
        # SQLite's parameters go by position, PostgreSQL's by name.
        self._order: Sequence[str] | None = compiled.positiontup if compiled.positional else None  # type: ignore[attr-defined]
        self._fixed = {name: value for name, value in (compiled.params or {}).items() if name not in keys}
        types = {bound.key: bound.type for bound in compiled.binds.values()}  # type: ignore[attr-defined]
        self._exact = {name: kind for name, kind in types.items() if isinstance(kind, Exact)}

    def parameters(self, values: Values) -> Sequence[Any] | Values:
        named = {**self._fixed, **values}
        for name, kind in self._exact.items():
            named[name] = kind.process_bind_param(named[name], self._dialect)
        return named if self._order is None else [named[name] for name in self._order]


class Statements:
    """For statements that live as long as the program: each is compiled at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[tuple[ClauseElement, tuple[str, ...]], Statement] = {}

    def run(self, connection: Connection, statement: ClauseElement, rows: Sequence[Values]) -> DBAPICursor:
        """Once for each row of values. Raises the driver's own errors, in pipeline mode perhaps later."""
        keys = tuple(rows[0])
        compiled = self._compiled.get((statement, keys))
        if compiled is None:
            compiled = self._compiled[statement, keys] = Statement(statement, keys, self._dialect)
        driver = connection.connection.driver_connection
        assert driver is not None
        cursor: DBAPICursor = driver.cursor()
        parameters: Any = [compiled.parameters(row) for row in rows]
        if len(rows) == 1:
            cursor.execute(compiled.text, parameters[0])
        else:
            cursor.executemany(compiled.text, parameters)
        return cursor
