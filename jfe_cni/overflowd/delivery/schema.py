"""The tables of the delivery's state, as the last of `migrations/versions` leaves them. Times are microseconds since
the epoch."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

# The one integer type of SQLite that its row numbers take is INTEGER, of 64 bits.
_Number = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

# One row a copy of a notice. `signer`: the key that its collector signed by when it was put, by its thumbprint; only
# who holds that key may send it. `holder`: the collector that sends it, until `held_until` unless it says so again.
copies = Table(
    "copies",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("nonce", Text, nullable=False),
    Column("to_end", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("notice", LargeBinary, nullable=False),  # as `notice.encode` writes it
    Column("signer", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("way", Text),
    Column("holder", Text),
    Column("held_until", BigInteger),
    Column("put_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    # Put again where nobody knows whether it was, it is there once.
    UniqueConstraint("nonce", "to_end", name="copies_by_nonce"),
    Index("copies_by_state", "state", "id"),
    Index("copies_by_address", "state", "address"),
    Index("copies_by_age", "changed_at"),
)

# Networks that are not told. `until`: None, until it is lifted by hand. `key`, `signed`: by whom it was asked, and how.
left_alone = Table(
    "left_alone",
    metadata,
    Column("network", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("until", BigInteger),
    Column("key", Text),
    Column("signed", LargeBinary),
    Column("since", BigInteger, nullable=False),
    PrimaryKeyConstraint("network", "cause", name="left_alone_by_network"),
    Index("left_alone_by_end", "until"),
)
