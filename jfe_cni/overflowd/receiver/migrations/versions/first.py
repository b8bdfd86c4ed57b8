"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "receiver_0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("taken", sa.BigInteger, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("to", sa.Text, nullable=False),
        sa.Column("signed", sa.Text, nullable=False),
        sa.UniqueConstraint("domain", "nonce", "to", name="notices_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("notices_taken", "notices", ["taken"])
    op.create_table(
        "pins",
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("jwk", sa.Text, nullable=False),
        sa.Column("pinned", sa.BigInteger, nullable=False),
        sa.Column("forgotten", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("domain", "key", name="pins_by_key"),
    )
    op.create_table(
        "changes",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "announced",
        sa.Column("flood", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for name in ("announced", "changes", "pins", "notices"):
        op.drop_table(name)
