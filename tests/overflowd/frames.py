"""Packets, made layer by layer."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

IPV4, IPV6 = 0x0800, 0x86DD


def ethernet(payload: bytes, kind: int = IPV4) -> bytes:
    return bytes(12) + struct.pack(">H", kind) + payload


def tagged(payload: bytes, kind: int = IPV4, number: int = 5) -> bytes:
    """What follows a tag's own type."""
    return struct.pack(">HH", number, kind) + payload


def ipv4(
    source: str, destination: str, protocol: int, payload: bytes, *, offset: int = 0, options: bytes = b""
) -> bytes:
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0x20, words * 4 + len(payload), 1, offset, 64, protocol, 0)
    return head + IPv4Address(source).packed + IPv4Address(destination).packed + options + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def tcp(source: int, destination: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", source, destination, 1, 2, 0x50, flags, 100, 0, 0) + payload


def udp(source: int, destination: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload
