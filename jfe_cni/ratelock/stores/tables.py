"""Which tables ratelock's databases have."""

from __future__ import annotations

from jfe_cni.databases.upgrade import Tables

TABLES = Tables(
    program="ratelock",
    scripts="jfe_cni.ratelock.stores:migrations",
    # The last of `migrations/versions`.
    newest="0002",
    # "ratelock", in ASCII.
    lock=0x726174656C6F636B,
)
