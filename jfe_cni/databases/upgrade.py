"""A database's tables as this release needs them: made, or brought up to date by Alembic, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Connection, Engine, func, select

from jfe_cni.databases.engines import migrator
from jfe_cni.errors import RequestError


@dataclass(frozen=True)
class Tables:
    """`program`: whose they are, for messages. `scripts`: the package of the migrations, as Alembic's script_location
    names it. `newest`: the last of them. `lock`: of PostgreSQL's advisory locks, 64 bits, no other program's."""

    program: str
    scripts: str
    newest: str
    lock: int


def upgrade(engine: Engine, tables: Tables) -> None:
    """`engine`: of `engines.migrator`. Raises RequestError where the database is a newer release's, or another
    program's."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Replicas that start together: one makes the tables.
            connection.execute(select(func.pg_advisory_xact_lock(tables.lock)))
        found = MigrationContext.configure(connection).get_current_revision()
        if found != tables.newest:
            _run(connection, tables, found)


def upgrade_at(url: URL, tables: Tables) -> None:
    """As `upgrade`, by a connection of its own."""
    engine = migrator(url)
    try:
        upgrade(engine, tables)
    finally:
        engine.dispose()


def _run(connection: Connection, tables: Tables, found: str | None) -> None:
    # Alembic takes a while to load, and is seldom needed.
    from alembic import command
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", tables.scripts)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise RequestError(
            f"the database's tables are of a newer release (revision {found}; this one knows {tables.newest})",
            remedy=f"run the newer {tables.program}, or restore the backup from before its upgrade",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
