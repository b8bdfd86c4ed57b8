"""Taking a table away."""

from __future__ import annotations

from jfe_cni.rules.model import Ruleset


def removal(family: str, table: str) -> Ruleset:
    """A transaction after which there is no such table, whether there was one or not."""
    return Ruleset(table, family, f"add table {family} {table}\ndelete table {family} {table}\n")
