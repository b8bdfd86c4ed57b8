"""What is shown, as JSON: the same for the page's API, for webhooks and for `overflowd tail`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import encode
from jfe_cni.overflowd.receiver.aggregation import Flood, Seen
from jfe_cni.overflowd.receiver.kept import Change, Kept

_MOST_SHOWN = 32
"""Sources of one flood: those of most notices."""


def time(at: Microseconds) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def notice_view(kept: Kept) -> dict[str, Any]:
    return {
        "number": kept.number,
        "taken": time(kept.taken),
        "domain": kept.domain,
        "key": kept.key,
        "notice": json.loads(encode(kept.notice)),
    }


def change_view(change: Change) -> dict[str, Any]:
    return {"domain": change.domain, "keys": list(change.keys), "since": time(change.since)}


def flood_view(flood: Flood) -> dict[str, Any]:
    name = flood.name
    return {
        "flood": str(name),
        "told-as": name.told.value,
        "target": name.target,
        "protocol": name.protocol,
        "port": None if name.port == 0 else name.port,
        "side": name.side.value,
        "since": time(flood.since),
        "last": time(flood.last),
        "notices": flood.whole.notices,
        "packets": flood.whole.estimate,
        "networks": len(flood.networks),
        "classes": {each.value: count for each, count in sorted(flood.classes.items())},
        "evidence": [{"domain": domain, "evidence": said} for domain, said in flood.evidence],
        "reporters": [
            {"domain": domain, "organisation": organisation, "packets": flood.whole.packets[domain]}
            for domain, organisation in sorted(flood.organisations.items())
        ],
        "peers": [_peer(network, seen) for network, seen in largest(flood.sources.items(), _MOST_SHOWN)],
        "peers-left-out": max(len(flood.sources) - _MOST_SHOWN, 0),
        "notices-of-others": flood.others,
        "spoofed": flood.spoofed.value,
        "sources-certainly-spoofed": flood.certainly_spoofed,
    }


def largest(seen: Iterable[tuple[str, Seen]], most: int) -> list[tuple[str, Seen]]:
    return sorted(seen, key=lambda each: (-each[1].notices, each[0]))[:most]


def _peer(network: str, seen: Seen) -> dict[str, Any]:
    return {
        "network": network,
        "notices": seen.notices,
        "packets": seen.estimate,
        "reporters": sorted(seen.packets),
        "spoofed": seen.spoofed.value,
        "reporters-that-find-it-spoofed": sorted(seen.forged),
        "reporters-that-do-not": sorted(seen.unforged),
    }
