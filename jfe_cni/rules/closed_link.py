"""Closing the host's end of a workload's link: nothing passes in either direction until the table is taken away."""

from __future__ import annotations

from jfe_cni.rules.model import Ruleset
from jfe_cni.rules.text import Chain, table_text

FAMILY = "netdev"
PREFIX = "jfe_closed_"


def closed_link_ruleset(device: str) -> Ruleset:
    """A table for one link: `device` is the host's end. Frames of packet sockets are held, too.

    The egress hook needs Linux 5.16 (kernel commit 42df6e1d221d)."""
    tag = "jfe closed link"
    chains = []
    for name, hook, reason in (
        ("from-workload", "ingress", "nothing of the workload reaches the host or the network"),
        ("to-workload", "egress", "nothing reaches the workload"),
    ):
        chain = Chain(name, f'type filter hook {hook} device "{device}" priority -500', tag)
        chain.add("counter drop", reason)
        chains.append(chain.text())
    table = closed_link_table(device)
    return Ruleset(table, FAMILY, table_text(FAMILY, table, tag, chains))


def closed_link_table(device: str) -> str:
    """The table's name: a device's name may hold characters that a table's may not, so it is spelt in hexadecimal."""
    return PREFIX + device.encode().hex()
