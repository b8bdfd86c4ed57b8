"""A pod: a namespace behind host a, whose agent covers it and holds the other end of its link."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from jfe_cni.agent.objects import Target
from tests.stage import Host, Place, Stage
from tests.stage.namespace import NetworkNamespace, ip

# The rest of what RFC 2544 set apart, beside the stage's own network.
IPV4, IPV4_GATEWAY = "198.18.8.2", "198.18.8.1"
IPV6, IPV6_GATEWAY = "fd00:8::2", "fd00:8::1"
OUTSIDE = "pod0"


@contextlib.contextmanager
def pod(stage: Stage, node: Host) -> Iterator[Place]:
    """Reached by all places of the stage by way of `node`. Its agent must have been started; `enrol_pod` covers it."""
    namespace = NetworkNamespace(f"{stage.name}-pod")
    others = [place for place in (stage.a, stage.b, stage.stranger) if place is not node]
    folder = stage.folder / "pod"
    folder.mkdir(mode=0o711, exist_ok=True)
    made = Place(namespace, folder, IPV4, IPV6)
    try:
        ip("link", "add", OUTSIDE, "netns", node.name, "type", "veth", "peer", "name", "eth0", "netns", namespace.name)
        for place, device, ipv4, ipv6 in (
            (node, OUTSIDE, IPV4_GATEWAY, IPV6_GATEWAY),
            (made, "eth0", IPV4, IPV6),
        ):
            ip("-n", place.name, "address", "add", f"{ipv4}/24", "dev", device)
            ip("-n", place.name, "address", "add", f"{ipv6}/64", "dev", device, "nodad")
            ip("-n", place.name, "link", "set", device, "up")
        ip("-n", made.name, "route", "add", "default", "via", IPV4_GATEWAY)
        ip("-n", made.name, "-6", "route", "add", "default", "via", IPV6_GATEWAY)
        for place in others:
            ip("-n", place.name, "route", "add", "198.18.8.0/24", "via", node.ipv4)
            ip("-n", place.name, "-6", "route", "add", "fd00:8::/64", "via", node.ipv6)
        node.inside(lambda: _forward("1"))
        yield made
    finally:
        made.stop_all()
        # The kernel removes a namespace's devices some time after it; the next pod's has the same name.
        subprocess.run(["ip", "-n", node.name, "link", "delete", OUTSIDE], check=False, capture_output=True)
        for place in others:
            ip("-n", place.name, "route", "flush", "198.18.8.0/24")
            ip("-n", place.name, "-6", "route", "flush", "fd00:8::/64")
        namespace.delete()
        node.inside(lambda: _forward("0"))


def enrol_pod(node: Host, made: Place) -> str:
    """Strict; the identity that it got."""
    return node.enrol("strict", name="pod", target=Target("netns", str(made.path))).identity


def _forward(value: str) -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text(value)
