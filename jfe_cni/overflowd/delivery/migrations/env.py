"""Run by Alembic, on the connection and in the transaction that `databases/upgrade.py` gives."""

from alembic import context

from jfe_cni.overflowd.delivery.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
