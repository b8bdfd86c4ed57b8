"""Alembic's scripts for the receiver's tables."""
