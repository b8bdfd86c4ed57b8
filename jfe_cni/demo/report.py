"""What a demonstration has found, as a value: the JSON object, the promises, and the table that a person sees. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wire:
    """What was on the link during one fetch. `connections`: (source, destination) as ADDRESS, of every TCP connection
    that went to the server's port; `read`: how an eavesdropper would put it."""

    clear_text: bool
    all_tls: bool
    connections: tuple[tuple[str, str], ...]
    read: str


@dataclass(frozen=True)
class Costs:
    connect_seconds: float
    round_trip_seconds: float
    bytes_per_second: float


@dataclass(frozen=True)
class Half:
    """One half of the demonstration: bare, or under cover."""

    wire: Wire
    server_saw_address: str
    page: bytes
    costs: Costs


@dataclass(frozen=True)
class Seal:
    """What the upgraders say of the connection: each end names the identity that it has verified of the other."""

    tls_version: str
    cipher: str
    key_exchange: str
    client_identity: str
    server_identity: str


@dataclass(frozen=True)
class Expected:
    client_address: str
    server_address: str
    server_port: int
    client_identity: str
    server_identity: str
    page: bytes


@dataclass(frozen=True)
class Findings:
    expected: Expected
    before: Half
    after: Half
    seal: Seal

    @property
    def promises(self) -> dict[str, bool]:
        """What a person was promised, and whether it held in this run."""
        expected, seal = self.expected, self.seal
        address_pair = (expected.client_address, expected.server_address)
        return {
            "the same page arrived, bare and under cover": self.before.page == self.after.page == expected.page,
            "bare, the wire could be read": self.before.wire.clear_text,
            "under cover, nothing on the wire could be read": not self.after.wire.clear_text,
            "under cover, every byte on the wire was TLS": self.after.wire.all_tls,
            "addresses and the server's port on the wire stayed": set(self.after.wire.connections) == {address_pair},
            "the server saw the client's own address": self.after.server_saw_address == expected.client_address,
            "the protocol was TLS 1.3": seal.tls_version == "TLSv1.3",
            "the server proved who it is": seal.server_identity == expected.server_identity,
            "the client proved who it is": seal.client_identity == expected.client_identity,
        }

    def as_json(self, left_behind: list[str]) -> dict[str, Any]:
        before, after = self.before, self.after
        return {
            "client_address": self.expected.client_address,
            "server_address": self.expected.server_address,
            "server_port": self.expected.server_port,
            "server_saw_address": after.server_saw_address,
            "server_saw_address_before": before.server_saw_address,
            "clear_text_on_wire_before": before.wire.clear_text,
            "clear_text_on_wire_after": after.wire.clear_text,
            "eavesdropper_read_before": before.wire.read,
            "eavesdropper_read_after": after.wire.read,
            **dataclasses.asdict(self.seal),
            "connect_ratio": round(after.costs.connect_seconds / before.costs.connect_seconds, 3),
            "round_trip_ratio": round(after.costs.round_trip_seconds / before.costs.round_trip_seconds, 3),
            "throughput_ratio": round(after.costs.bytes_per_second / before.costs.bytes_per_second, 3),
            "costs_before": dataclasses.asdict(before.costs),
            "costs_after": dataclasses.asdict(after.costs),
            "promises": self.promises,
            "left_behind": left_behind,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, bare, under cover)."""
        before, after, seal = self.before, self.after, self.seal
        return [
            ("an eavesdropper reads", before.wire.read, after.wire.read),
            ("the wire shows", _connections(before.wire, self.expected), _connections(after.wire, self.expected)),
            ("the server saw", before.server_saw_address, after.server_saw_address),
            ("TLS", "none", f"{seal.tls_version}, {seal.cipher}, {seal.key_exchange}"),
            ("the client is", "anybody", seal.client_identity),
            ("the server is", "anybody", seal.server_identity),
            (
                "connect, first byte",
                _microseconds(before.costs.connect_seconds),
                _microseconds(after.costs.connect_seconds)
                + _ratio(after.costs.connect_seconds / before.costs.connect_seconds),
            ),
            (
                "round trip, 64 bytes",
                _microseconds(before.costs.round_trip_seconds),
                _microseconds(after.costs.round_trip_seconds)
                + _ratio(after.costs.round_trip_seconds / before.costs.round_trip_seconds),
            ),
            (
                "one stream",
                _rate(before.costs.bytes_per_second),
                _rate(after.costs.bytes_per_second)
                + _ratio(after.costs.bytes_per_second / before.costs.bytes_per_second),
            ),
        ]


def _connections(wire: Wire, expected: Expected) -> str:
    return ", ".join(f"{source} → {destination}:{expected.server_port}" for source, destination in wire.connections)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:,.0f} MB/s"


def _ratio(ratio: float) -> str:
    return f" ({ratio:.2f} ×)"
