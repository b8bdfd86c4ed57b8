"""The database's tables as this release needs them: made, or brought up to date, in one transaction."""

from __future__ import annotations

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, func, select

from jfe_cni.errors import RequestError

# The last of `migrations/versions`.
NEWEST = "0002"

_SCRIPTS = "jfe_cni.ratelock.stores:migrations"
# Of PostgreSQL's advisory locks: "ratelock", in ASCII.
_LOCK = 0x726174656C6F636B


def upgrade(engine: Engine) -> None:
    """Raises RequestError where the database is a newer release's, or not ratelock's."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Replicas that start together: one makes the tables.
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        found = MigrationContext.configure(connection).get_current_revision()
        if found == NEWEST:
            return
        _run(connection, found)


def _run(connection: Connection, found: str | None) -> None:
    # Alembic takes a while to load, and is seldom needed.
    from alembic import command
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise RequestError(
            f"the store's tables are of a newer release (revision {found}; this one knows {NEWEST})",
            remedy="run the newer ratelock, or restore the backup from before its upgrade",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
