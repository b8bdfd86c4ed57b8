"""The receiver's tables, as the last of `migrations/versions` leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

# The one integer type of SQLite that its row numbers take is INTEGER, of 64 bits.
Number = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

# What was taken, as its reporter signed it: whoever doubts can verify it again. `number` grows in the order in which
# they were committed. Never the same twice, whichever replica took it.
notices = Table(
    "notices",
    metadata,
    Column("number", Number, primary_key=True),
    Column("taken", BigInteger, nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("domain", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("signed", Text, nullable=False),
    UniqueConstraint("domain", "nonce", "to", name="notices_once"),
    Index("notices_taken", "taken"),
    sqlite_autoincrement=True,
)

# `forgotten`: the youngest of its notices that is no longer kept and would be news still was made then.
pins = Table(
    "pins",
    metadata,
    Column("domain", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("jwk", Text, nullable=False),
    Column("pinned", BigInteger, nullable=False),
    Column("forgotten", BigInteger, nullable=False),
    PrimaryKeyConstraint("domain", "key", name="pins_by_key"),
)

# Domains that publish none of the keys that were pinned.
changes = Table(
    "changes",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("keys", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)

# Floods that webhooks were told of, or are being told of by one replica.
announced = Table(
    "announced",
    metadata,
    Column("flood", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)
