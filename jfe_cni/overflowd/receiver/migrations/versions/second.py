"""When each pin was used last; what is forgotten outlives its pin; who tells which webhook of what, and until when."""

import sqlalchemy as sa
from alembic import op

revision = "receiver_0002"
down_revision = "receiver_0001"


def upgrade() -> None:
    op.add_column("pins", sa.Column("used", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "forgotten",
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("domain", "key", name="forgotten_by_key"),
    )
    op.drop_table("announced")
    op.create_table(
        "announcements",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "webhook", name="announcements_once"),
    )
    op.create_table(
        "sealing_keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("seen", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for name in ("sealing_keys", "announcements", "forgotten"):
        op.drop_table(name)
    op.create_table(
        "announced",
        sa.Column("flood", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.drop_column("pins", "used")
