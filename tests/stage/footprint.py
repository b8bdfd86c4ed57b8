"""What a namespace looks like to an administrator, as text that can be compared before and after."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

from tests.stage.place import Place

COMMANDS = (
    ("nft", "-s", "list", "ruleset"),
    ("ip", "-4", "rule", "show"),
    ("ip", "-6", "rule", "show"),
    ("ip", "-4", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
)
# The sysctls that a cover may set while it lasts (ip-sysctl.rst).
SYSCTLS = ("ipv4/tcp_fwmark_accept", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect", "ipv4/conf/all/route_localnet")


def footprint(place: Place) -> dict[str, str]:
    """Rules, routes and sysctls of its namespace: each question and its answer."""
    # A bridge that has lost its last port is a state, and nobody's setting.
    seen = {" ".join(command): place.run(command).stdout.decode().replace(" linkdown", "") for command in COMMANDS}

    def read() -> dict[str, str]:
        return {name: Path("/proc/sys/net", name).read_text().strip() for name in SYSCTLS}

    return seen | place.inside(read)


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each line of an answer that has come or gone."""
    return [
        f"`{name}`: {line}"
        for name in before
        for line in unified_diff(before[name].splitlines(), after[name].splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
