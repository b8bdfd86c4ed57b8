"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "delivery_0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "copies",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("to_end", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("notice", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("way", sa.Text),
        sa.Column("holder", sa.Text),
        sa.Column("held_until", sa.BigInteger),
        sa.Column("put_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("nonce", "to_end", name="copies_by_nonce"),
    )
    op.create_index("copies_by_state", "copies", ["state", "id"])
    op.create_index("copies_by_age", "copies", ["changed_at"])
    op.create_table(
        "left_alone",
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("key", sa.Text),
        sa.Column("signed", sa.LargeBinary),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("network", "cause", name="left_alone_by_network"),
    )
    op.create_index("left_alone_by_end", "left_alone", ["until"])


def downgrade() -> None:
    """There is nothing before it."""
