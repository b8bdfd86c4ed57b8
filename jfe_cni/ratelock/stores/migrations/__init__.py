"""Alembic's migrations: one file a change of the tables, which is never edited once released."""
