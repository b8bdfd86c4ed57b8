"""Intents whose rulesets are kept as golden files: both shapes, both modes, with IPv6 and without."""

from __future__ import annotations

from ipaddress import ip_address

from jfe_cni.rules.closed_link import closed_link_ruleset
from jfe_cni.rules.host import host_ruleset
from jfe_cni.rules.model import (
    Cgroup,
    ConnectionTuple,
    Exemption,
    Former,
    HostIntent,
    HostWorkload,
    Mark,
    Mode,
    NamespaceIntent,
    Ruleset,
)
from jfe_cni.rules.namespace import namespace_ruleset
from jfe_cni.rules.probe import probe_ruleset

EXEMPTION = Exemption("jfe/n1/upgrader", 3)
CGROUPS = ("jfe/n1/upgrader", "jfe/n1/run/web", "system.slice/db.service")
"""What must exist for the golden files to load."""

BARE = (
    ConnectionTuple(ip_address("10.1.0.5"), 40000, ip_address("10.2.0.9"), 5432),
    ConnectionTuple(ip_address("10.1.0.5"), 40001, ip_address("10.2.0.9"), 5432),
    ConnectionTuple(ip_address("fd00::5"), 40002, ip_address("fd00::9"), 5432),
)


def _namespace(mode: Mode, ipv6: bool) -> Ruleset:
    bare = tuple(each for each in BARE if ipv6 or each.local.version == 4) if mode is Mode.PERMISSIVE else ()
    intent = NamespaceIntent("pod-a", Mark(), 61001, 61002, ipv6, mode, EXEMPTION, bare)
    return namespace_ruleset(intent, Former(0, 0, 0 if ipv6 else None, loopback_up=True))


def _host(mode: Mode, ipv6: bool) -> Ruleset:
    bare = tuple(each for each in BARE if ipv6 or each.local.version == 4) if mode is Mode.PERMISSIVE else ()
    web = HostWorkload("web", Cgroup("jfe/n1/run/web", 4), 61001, 61002, mode, bare=bare)
    database = HostWorkload("db", Cgroup("system.slice/db.service", 2), 61003, 61004, Mode.STRICT, (5432,))
    return host_ruleset(HostIntent(Mark(), EXEMPTION, (web, database), ipv6))


def examples() -> dict[str, Ruleset]:
    """Name of the golden file (without suffix) and its ruleset."""
    made = {
        f"{shape}-{mode.value}-{'ipv4-ipv6' if ipv6 else 'ipv4'}": build(mode, ipv6)
        for shape, build in (("namespace", _namespace), ("host", _host))
        for mode in Mode
        for ipv6 in (True, False)
    }
    made["host-empty"] = host_ruleset(HostIntent(Mark(), EXEMPTION, ()))
    made["closed-link"] = closed_link_ruleset("eth0")
    made["probe"] = probe_ruleset(EXEMPTION, 61000)
    return made
