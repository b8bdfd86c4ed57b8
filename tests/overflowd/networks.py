"""Networks on one machine: namespaces with routing, exporters of somebody else's make (softflowd), a reporter in each
that carries, a receiver at each end. Everything is bounded, and taken away at the end.

        a ──── t1 ──── v          a: where floods come from. v: where they go. s: whose address is forged.
               │       │          a to v goes by t1, v to a by t2 and t1: the way back is not the way there.
               t2 ─────┘          s to v, and v to s, go by t2.
               │
               s
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.overflowd.laboratory import Laboratory, all_ended, shown
from tests.stage.namespace import NetworkNamespace, ip

_NETFLOW = 2055
# RFC 8200, section 3, and RFC 768.
_UDP = 17


@dataclass(frozen=True)
class Link:
    """`number`: of both its interfaces, as their exporters name them."""

    one: str
    other: str
    number: int

    def interface(self, of: str) -> str:
        return f"to-{self.other if of == self.one else self.one}"

    def address(self, of: str) -> str:
        return f"10.200.{self.number}.{1 if of == self.one else 2}"


ENDS = {"a": "10.1.0.9", "s": "10.2.0.9", "v": "10.3.0.9"}
CARRIERS = {"t1": "10.101.0.1", "t2": "10.102.0.1"}
LINKS = (Link("a", "t1", 11), Link("t1", "v", 12), Link("t1", "t2", 13), Link("t2", "v", 14), Link("t2", "s", 15))
# Of each network, by which neighbour the others are reached.
ROUTES: Mapping[str, Mapping[str, str]] = {
    "a": {"s": "t1", "v": "t1", "t1": "t1", "t2": "t1"},
    "s": {"a": "t2", "v": "t2", "t1": "t2", "t2": "t2"},
    "v": {"a": "t2", "s": "t2", "t1": "t1", "t2": "t2"},
    "t1": {"a": "a", "v": "v", "s": "t2", "t2": "t2"},
    "t2": {"s": "s", "v": "v", "a": "t1", "t1": "t1"},
}

# By which interfaces each network's packets may come: that by which it is reached, and that by which it sends.
COMES_BY: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "t1": {"a": (11,), "v": (12, 13), "s": (13,), "t2": (13,)},
    "t2": {"s": (15,), "v": (14,), "a": (13,), "t1": (13,)},
}


def prefix(name: str) -> str:
    """Of a network, 10.N.0.0/16."""
    return str(IPv4Address(int(IPv4Address((ENDS | CARRIERS)[name])) & 0xFFFF0000)) + "/16"


class Networks:
    """`folder`: where all that runs keeps its state."""

    def __init__(self, folder: Path, names: Sequence[str], stack: ExitStack) -> None:
        self.folder = folder
        self.names = tuple(names)
        self._laboratory = Laboratory(folder, {name: CARRIERS[name] for name in names if name in CARRIERS}, stack)
        self._links = [link for link in LINKS if {link.one, link.other} <= set(names)]
        self.namespaces = {name: NetworkNamespace(f"jfe-{os.getpid()}-{name}") for name in names}
        for each in self.namespaces.values():
            stack.callback(each.delete)
        self._join()

    def _join(self) -> None:
        for link in self._links:
            one, other = self.namespaces[link.one], self.namespaces[link.other]
            words = ["link", "add", link.interface(link.one), "netns", one.name, "type", "veth"]
            ip(*words, "peer", "name", link.interface(link.other), "netns", other.name)
            for name, space in ((link.one, one), (link.other, other)):
                ip("-n", space.name, "address", "add", f"{link.address(name)}/24", "dev", link.interface(name))
                ip("-n", space.name, "link", "set", link.interface(name), "up")
        for name, space in self.namespaces.items():
            ip("-n", space.name, "address", "add", f"{(ENDS | CARRIERS)[name]}/32", "dev", "lo")
            space.inside(_forward)
            for network, neighbour in ROUTES[name].items():
                way = self._link(name, neighbour)
                if network in self.namespaces and way is not None:
                    words = ["via", way.address(neighbour), "src", (ENDS | CARRIERS)[name]]
                    ip("-n", space.name, "route", "add", prefix(network), *words)

    def _link(self, one: str, other: str) -> Link | None:
        return next((link for link in self._links if {link.one, link.other} == {one, other}), None)

    def report(self, carrier: str) -> None:
        """Exporters on all interfaces of a network, which tell of what comes in; and its reporter."""
        (self.folder / carrier).mkdir()
        self._laboratory.report(
            self.namespaces[carrier],
            carrier,
            netflow=f"127.0.0.1:{_NETFLOW}",
            exporters="127.0.0.0/8",
            own=prefix(carrier),
            routes=str(self._routes(carrier)),
        )
        for link in self._links:
            if carrier in (link.one, link.other):
                self._export(carrier, link)

    def _export(self, carrier: str, link: Link) -> None:
        name = f"{carrier}-{link.number}"
        flags = ["-d", "-i", f"{link.number}:{link.interface(carrier)}", "-n", f"127.0.0.1:{_NETFLOW}", "-v", "9"]
        files = ["-p", str(self.folder / f"{name}.pid"), "-c", str(self.folder / f"{name}.control")]
        timeouts = ["-t", "maxlife=2", "-t", "expint=1"]
        words = ["softflowd", *flags, *files, *timeouts, "inbound and ip and udp and not port 65535"]
        self._laboratory.started(self.namespaces[carrier], f"softflowd-{name}.log", *words).says("Exporting flows")

    def _routes(self, carrier: str) -> Path:
        path = self.folder / carrier / "routes"
        there = {link.number for link in self._links}
        lines = [
            f"{prefix(network)} {' '.join(str(number) for number in numbers if number in there)}\n"
            for network, numbers in COMES_BY[carrier].items()
            if there & set(numbers)
        ]
        path.write_text("".join(lines))
        return path

    def receive(self, end: str) -> None:
        self._laboratory.receive(self.namespaces[end], end, ENDS[end])

    def shown(self, end: str, path: str) -> Any:
        return shown(self.namespaces[end], path)

    def all_ended(self, carrier: str) -> bool:
        return all_ended(self.namespaces[carrier])

    def flood(self, end: str, destination: str, packets: int, source: str | None = None) -> None:
        """UDP to a port that nobody has, from one that is: raw, so that the source may be anybody's."""
        packet = _packet(source or ENDS[end], ENDS[destination])
        self.namespaces[end].inside(lambda: _send(packet, ENDS[destination], packets))


def _forward() -> None:
    for name, value in (("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")):
        Path("/proc/sys/net/ipv4", name).write_text(value)


def _packet(source: str, destination: str) -> bytes:
    payload = bytes(400)
    udp = struct.pack(">HHHH", 4444, 7777, 8 + len(payload), 0) + payload
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    # The kernel fills in length, id and checksum (raw(7), IP_HDRINCL).
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, _UDP, 0) + ends + udp


def _send(packet: bytes, destination: str, packets: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(packets):
            raw.sendto(packet, (destination, 0))
            # Exporters of this kind lose what comes at once.
            if number % 500 == 499:
                time.sleep(0.05)


@contextmanager
def networks(folder: Path, names: Sequence[str]) -> Iterator[Networks]:
    with ExitStack() as stack:
        yield Networks(folder, names, stack)
