"""What an eavesdropper reads: a capture file taken apart into the bytes of its TCP connections. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from jfe_cni.errors import RequestError

# pcap's file header, microseconds and nanoseconds, as written by a little-endian host
# (https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/).
MAGIC = (0xA1B2C3D4, 0xA1B23C4D)
FILE_HEADER = 24
PACKET_HEADER = 16
ETHERNET = 1
ETHERNET_HEADER = 14
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
TCP = 6
IPV6_HEADER = 40
# RFC 8446, section 5.1: content type, the legacy version 0x0301 to 0x0303, a length of at most 2^14 + 256.
TLS_CONTENT = {20: "change cipher spec", 21: "alert", 22: "handshake", 23: "application data"}
TLS_RECORD_LIMIT = (1 << 14) + 256

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Flow:
    """One direction of a TCP connection, as its packets say."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int


@dataclass(frozen=True)
class Segment:
    flow: Flow
    sequence: int
    payload: bytes


def streams(capture: bytes) -> dict[Flow, bytes]:
    """The bytes of each direction of each TCP connection in a pcap file (Ethernet), in the order of their sequence
    numbers, each once. RequestError where it is no such file."""
    segments: dict[Flow, dict[int, bytes]] = {}
    for segment in _segments(capture):
        if segment.payload:
            held = segments.setdefault(segment.flow, {})
            if len(segment.payload) > len(held.get(segment.sequence, b"")):
                held[segment.sequence] = segment.payload
    return {flow: _joined(held) for flow, held in segments.items()}


def _joined(held: dict[int, bytes]) -> bytes:
    """Segments put together; what was sent again is left out, what the capture missed is passed over.

    Sequence numbers are counted from the first segment seen, so that one wrap of the 32-bit space does no harm."""
    first = next(iter(held))
    joined = bytearray()
    reached = None
    for distance, payload in sorted(
        (((sequence - first + 2**31) % 2**32), bytes_) for sequence, bytes_ in held.items()
    ):
        fresh = payload if reached is None else payload[max(0, reached - distance) :]
        joined += fresh
        reached = max(reached or 0, distance + len(payload))
    return bytes(joined)


def _segments(capture: bytes) -> Iterator[Segment]:
    if len(capture) < FILE_HEADER or struct.unpack_from("<I", capture)[0] not in MAGIC:
        raise RequestError("this is no pcap file", remedy="capture again with tcpdump -w")
    if struct.unpack_from("<I", capture, 20)[0] != ETHERNET:
        raise RequestError("this capture is not of an Ethernet link", remedy="capture on the link itself, not on `any`")
    at = FILE_HEADER
    while at + PACKET_HEADER <= len(capture):
        (length,) = struct.unpack_from("<I", capture, at + 8)
        frame = capture[at + PACKET_HEADER : at + PACKET_HEADER + length]
        at += PACKET_HEADER + length
        segment = _segment(frame)
        if segment is not None:
            yield segment


def _segment(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame; None where there is none, or not whole."""
    if len(frame) < ETHERNET_HEADER:
        return None
    (kind,) = struct.unpack_from("!H", frame, 12)
    packet = frame[ETHERNET_HEADER:]
    source: Address
    destination: Address
    if kind == ETHERTYPE_IPV4 and len(packet) >= 20 and packet[9] == TCP:
        header, (total,) = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)
        source, destination = ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    elif kind == ETHERTYPE_IPV6 and len(packet) >= IPV6_HEADER and packet[6] == TCP:
        header, total = IPV6_HEADER, IPV6_HEADER + struct.unpack_from("!H", packet, 4)[0]
        source, destination = ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40])
    else:
        return None
    # Frames shorter than Ethernet's least are padded; a segment that the device is yet to cut says 0.
    segment = packet[header : total or None]
    if len(segment) < 20:
        return None
    source_port, destination_port, sequence = struct.unpack_from("!HHI", segment)
    flow = Flow(source, source_port, destination, destination_port)
    return Segment(flow, sequence, segment[(segment[12] >> 4) * 4 :])


def tls_records(stream: bytes) -> list[tuple[str, int]]:
    """(content type, length) of each TLS record that `stream` is made of; empty where it holds anything else, or ends
    inside one."""
    records: list[tuple[str, int]] = []
    at = 0
    while at < len(stream):
        if at + 5 > len(stream):
            return []
        content, version, length = struct.unpack_from("!BHH", stream, at)
        if content not in TLS_CONTENT or not 0x0301 <= version <= 0x0303 or length > TLS_RECORD_LIMIT:
            return []
        records.append((TLS_CONTENT[content], length))
        at += 5 + length
    return records if at == len(stream) else []


def legible(stream: bytes, limit: int) -> str:
    """The first `limit` bytes as a person would read them: what is not printable is a dot."""
    return "".join(chr(byte) if 32 <= byte < 127 or byte == 10 else "·" for byte in stream[:limit]).strip()
