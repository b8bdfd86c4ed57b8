"""What each release has changed in the tables of the delivery's state (Alembic)."""
