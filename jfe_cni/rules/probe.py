"""Rules that show whether a match on a cgroup works: loaded from the wrong cgroup namespace, it never does.

Kernel commit 7f3287db6543: a level counts from the root of the cgroup namespace of the process that loads the rule.
"""

from __future__ import annotations

from jfe_cni.rules.model import Exemption, Ruleset
from jfe_cni.rules.text import Chain, owner, table_text

TABLE = "jfe_probe"
FAMILY = "inet"


def probe_ruleset(exemption: Exemption, refused_port: int) -> Ruleset:
    """Lets connections to `refused_port` out of `exemption` alone, and resets all others: a probe need not count."""
    chain = Chain("probe", "type filter hook output priority mangle", "jfe probe")
    chain.add(f"tcp dport != {refused_port} accept", "answers")
    chain.add(f"{owner(exemption)} accept", "where the match works, the probe from inside connects")
    chain.add("reject with tcp reset", "and the one from outside does not")
    return Ruleset(TABLE, FAMILY, table_text(FAMILY, TABLE, "jfe probe", [chain.text()]))
