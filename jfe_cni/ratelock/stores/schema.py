"""The tables of the SQL stores, as the last of `migrations/versions` leaves them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


def exact(value: str) -> str:
    """As it is kept: PostgreSQL has no U+0000, and neither it nor SQLite surrogates. They are Python's escapes, and so
    is all that is not ASCII."""
    if value.isascii() and value.isprintable() and "\\" not in value:
        return value
    return value.encode("unicode_escape").decode("ascii")


class Exact(TypeDecorator[str]):
    """Any text as it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else exact(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value).encode("ascii").decode("unicode_escape")


# The one integer type of SQLite that its row numbers take is INTEGER, of 64 bits.
Number = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

# One row. Whoever writes holds it: the log's last entry, and the store's time (`clock.py`).
head = Table(
    "head",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("version", Number, nullable=False),  # of all that is cached of meters, in any replica
    Column("number", Number, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("boottime", BigInteger, nullable=False),
    Column("wall", BigInteger, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Exact, nullable=False),
    Column("event", Exact, nullable=False),
    Column("subject", Exact, nullable=False),
    Column("detail", Exact, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# Budgets are JSON (`rows.py`). `pruned`: the number of the newest attempt that is forgotten, `pruned_at` its time.
meters = Table(
    "meters",
    metadata,
    Column("id", Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Exact, nullable=False),
    Column("budget", Text),
    Column("pending", Text),
    Column("pending_from", BigInteger),
    Column("pruned", BigInteger, nullable=False),
    Column("pruned_at", BigInteger, nullable=False),
    UniqueConstraint("kind", "name", name="meters_by_name"),
)

# What was admitted, numbered from 1 for each meter: the one that decides is found by its number.
attempts = Table(
    "attempts",
    metadata,
    Column("meter", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("meter", "number", name="attempts_by_number"),
    sqlite_with_rowid=False,
)

# Refusals of one caller by one meter since its last entry in the log, which are not in the log yet.
refusals = Table(
    "refusals",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Exact, nullable=False),
    Column("caller", Exact, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("more", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind", "name", "caller", name="refusals_by_meter"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Exact, nullable=False),
    Column("key", Exact, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("caller", "key", name="idempotency_by_key"),
    Index("idempotency_by_age", "at"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Exact, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("class", Exact, key="secret_class", nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("public", Exact),
    Column("version", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False, server_default="0"),
)

# `operations`, `secrets`: JSON arrays.
tokens = Table(
    "tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("identity", Exact, nullable=False),
    Column("role", Text, nullable=False),
    Column("operations", Text, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("expires", BigInteger, nullable=False),
)
