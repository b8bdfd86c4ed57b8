"""Versions of the CNI specification: which are spoken, and what a result without content looks like."""

from __future__ import annotations

from typing import Any

SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]


def spoken(version: str | None) -> str:
    """The version in which a call of `version` is answered where that one is not spoken here."""
    return version if version in SUPPORTED else NEWEST


def minimal_result(version: str) -> dict[str, Any]:
    """CNI SPEC, "Success": this plugin makes no interface and gives no address."""
    return {"cniVersion": version, "interfaces": [], "ips": [], "dns": {}}
