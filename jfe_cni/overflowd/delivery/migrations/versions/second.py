"""By whose key a copy is signed, and the copies of an address."""

import sqlalchemy as sa
from alembic import op

revision = "delivery_0002"
down_revision = "delivery_0001"


def upgrade() -> None:
    # Of those that wait already nobody knows it: they are accounted for as too old.
    op.add_column("copies", sa.Column("signer", sa.Text))
    op.create_index("copies_by_address", "copies", ["state", "address"])


def downgrade() -> None:
    op.drop_index("copies_by_address", "copies")
    op.drop_column("copies", "signer")
