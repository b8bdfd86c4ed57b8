"""When an owner last changed a secret, as the log's number: an idempotency key of before stands for nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # A replica of the former release, which may still run, knows nothing of it.
    op.add_column("secrets", sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("secrets", "changed")
