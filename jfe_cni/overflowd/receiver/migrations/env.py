"""Run by Alembic, on the connection and in the transaction that `upgrade.py` gives."""

from alembic import context

from jfe_cni.overflowd.receiver.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
