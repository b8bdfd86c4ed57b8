"""Which tables the receiver's databases have."""

from __future__ import annotations

from jfe_cni.databases.upgrade import Tables

TABLES = Tables(
    program="overflowd",
    scripts="jfe_cni.overflowd.receiver:migrations",
    # The last of `migrations/versions`.
    newest="receiver_0003",
    # "ovfl-rcv", in ASCII.
    lock=0x6F76666C2D726376,
)
