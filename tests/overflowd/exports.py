"""Exports, made field by field; and where the real ones are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders.flows import Flows

REAL = Path(__file__).resolve().parents[3] / "shared/data/flows"
EXPORTER = IPv4Address("192.0.2.1")
NOW = 1_700_000_000
UPTIME = 100_000
VARIABLE = 65_535


def real(name: str) -> Path:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{name}: the real exports are not beside this checkout")
    return path


def datagram(payload: bytes, exporter: str = str(EXPORTER), at: int = NOW) -> Datagram:
    return Datagram(ip_address(exporter), 2055, at * 1_000_000, payload)


@dataclass(frozen=True)
class Spec:
    """`length`: as the template has it. `enterprise`: 0 for IANA's."""

    number: int
    length: int
    enterprise: int = 0


def a_set(number: int, body: bytes, padding: int = 0) -> bytes:
    body += b"\0" * padding
    return struct.pack(">HH", number, 4 + len(body)) + body


def ipfix_template(number: int, fields: Sequence[Spec], scopes: int = 0) -> bytes:
    head = struct.pack(">HH", number, len(fields)) + (struct.pack(">H", scopes) if scopes else b"")
    return a_set(3 if scopes else 2, head + b"".join(_ipfix_field(each) for each in fields))


def _ipfix_field(field: Spec) -> bytes:
    if field.enterprise:
        return struct.pack(">HHI", field.number | 0x8000, field.length, field.enterprise)
    return struct.pack(">HH", field.number, field.length)


def v9_template(number: int, fields: Sequence[Spec]) -> bytes:
    body = b"".join(struct.pack(">HH", each.number, each.length) for each in fields)
    return a_set(0, struct.pack(">HH", number, len(fields)) + body)


def v9_options(number: int, scopes: Sequence[Spec], fields: Sequence[Spec]) -> bytes:
    body = b"".join(struct.pack(">HH", each.number, each.length) for each in (*scopes, *fields))
    return a_set(1, struct.pack(">HHH", number, 4 * len(scopes), 4 * len(fields)) + body, padding=2)


def ipfix(*sets: bytes, domain: int = 7, length: int | None = None) -> bytes:
    body = b"".join(sets)
    return struct.pack(">HHIII", 10, length or 16 + len(body), NOW, 1, domain) + body


def v9(*sets: bytes, domain: int = 7, uptime: int = UPTIME) -> bytes:
    return struct.pack(">HHIIII", 9, len(sets), uptime, NOW, 1, domain) + b"".join(sets)


def v5(*records: bytes, sampling: int = 0, uptime: int = UPTIME) -> bytes:
    head = struct.pack(">HHIIIIBBH", 5, len(records), uptime, NOW, 500_000_000, 1, 1, 2, sampling)
    return head + b"".join(records)


def v5_record(source: str, destination: str, *, packets: int = 3, octets: int = 180) -> bytes:
    ends = IPv4Address(source).packed + IPv4Address(destination).packed + bytes(4)
    counts = struct.pack(">HHIIII", 4, 5, packets, octets, UPTIME - 2_000, UPTIME - 1_000)
    return ends + counts + struct.pack(">HHBBBBHHBBH", 1234, 80, 0, 0x12, 6, 0, 0, 0, 24, 24, 0)


FLOW_FIELDS = (Spec(8, 4), Spec(12, 4), Spec(7, 2), Spec(11, 2), Spec(4, 1), Spec(2, 4), Spec(1, 8))


def flow_record(source: str, destination: str, packets: int = 3, octets: int = 180) -> bytes:
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    return ends + struct.pack(">HHBIQ", 1234, 80, 17, packets, octets)


def address(flows: Flows, row: int, name: str = "source") -> str:
    found = IPv6Address(flows[row][name].tobytes())
    return str(found.ipv4_mapped or found)
