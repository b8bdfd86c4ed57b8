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
    text,
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

# `forgotten`: the youngest of its notices that is no longer kept was made then. `used`: about. `looked`: when
# it was seen last what the domain publishes.
pins = Table(
    "pins",
    metadata,
    Column("domain", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("jwk", Text, nullable=False),
    Column("pinned", BigInteger, nullable=False),
    Column("forgotten", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False, server_default=text("0")),
    Column("looked", BigInteger, nullable=False, server_default=text("0")),
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

# `pins.forgotten`, of keys that are pinned no longer: they may be again.
forgotten = Table(
    "forgotten",
    metadata,
    Column("domain", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("made", BigInteger, nullable=False),
    PrimaryKeyConstraint("domain", "key", name="forgotten_by_key"),
)

# What webhooks were told, or are being told by one replica. `webhook`: SHA-256 of its URL, which may have a secret in
# it. `last`: of the flood's notices, about. `until`: when whoever tells of it is given up; 0: it is told.
announcements = Table(
    "announcements",
    metadata,
    Column("name", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", "webhook", name="announcements_once"),
)

# By thumbprint, that replicas publish; `seen`: when the last of them said so.
sealing_keys = Table(
    "sealing_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("seen", BigInteger, nullable=False),
)
