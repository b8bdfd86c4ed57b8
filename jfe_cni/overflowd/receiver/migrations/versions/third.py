"""When it was looked last whether each pin is still published."""

import sqlalchemy as sa
from alembic import op

revision = "receiver_0003"
down_revision = "receiver_0002"


def upgrade() -> None:
    op.add_column("pins", sa.Column("looked", sa.BigInteger, nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    op.drop_column("pins", "looked")
