"""Captures: pcap and pcapng files, gzip or not, as the datagrams that are in them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.captures.links import packet_of
from jfe_cni.overflowd.captures.pcap import PCAP_MAGICS, damaged, read_pcap
from jfe_cni.overflowd.captures.pcapng import PCAPNG_MAGIC, read_pcapng
from jfe_cni.overflowd.datagrams import Datagram, Microseconds
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.packets import UDP, Packet

_GZIP_MAGIC = b"\x1f\x8b"
# 2100: the 32 bits of seconds that flows are compared by end six years later.
_LATEST: Microseconds = 4_102_444_800_000_000


def read(path: Path, drops: Drops) -> Iterator[Datagram]:
    """All UDP in a capture, in its order; what else there is, is counted, and so is a last packet that is cut off.
    Raises RequestError: no capture; damaged, after all that came before."""
    try:
        with path.open("rb") as file:
            yield from _datagrams(_unpacked(file), drops, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path} can't be read: {error}", remedy="give a capture (pcap, pcapng, gzip)") from error


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(2)[:2] == _GZIP_MAGIC:
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    return file


def _datagrams(stream: io.BufferedReader, drops: Drops, name: str) -> Iterator[Datagram]:
    magic = stream.peek(4)[:4]
    if magic in PCAP_MAGICS:
        captured = read_pcap(stream, drops)
    elif magic == PCAPNG_MAGIC:
        captured = read_pcapng(stream, drops)
    else:
        raise RequestError(f"{name} is no capture", remedy="give a file in pcap or pcapng format, gzip or not")
    for at, link, frame in captured:
        if not 0 <= at < _LATEST:
            raise damaged("a packet of the year 2100 or later, or of before 1970")
        packet = packet_of(link, frame)
        if isinstance(packet, Dropped):
            drops[packet] += 1
        elif packet.fragment:
            drops[Dropped.FRAGMENT] += 1
        elif packet.protocol != UDP:
            drops[Dropped.NO_UDP] += 1
        else:
            yield _datagram(at, packet)


def _datagram(at: int, packet: Packet) -> Datagram:
    return Datagram(ip_address(packet.source), packet.ports[1], at, packet.payload)
