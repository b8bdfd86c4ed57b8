"""Which tables the delivery's database has."""

from __future__ import annotations

from jfe_cni.databases.upgrade import Tables

TABLES = Tables(
    program="overflowd",
    scripts="jfe_cni.overflowd.delivery:migrations",
    # The last of `migrations/versions`. Alembic keeps one number a database: with a name of its own, tables of another
    # program are not taken for these.
    newest="delivery_0002",
    # "delivery", in ASCII.
    lock=0x64656C6976657279,
)
