"""What is inside a tunnel is the flow where the tunnel is the site's own, and nowhere else."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.packets import Packet, from_ip
from jfe_cni.overflowd.tunnels import Tunnels, inside
from tests.overflowd.exports import address, datagram
from tests.overflowd.frames import IPV4, IPV6, ethernet, ipv4, ipv6, tcp, udp
from tests.overflowd.test_sflow import raw_header, sample, sflow

LEFT, RIGHT = "10.255.0.1", "10.255.0.2"
OWN = Tunnels([ip_network("10.255.0.0/24"), ip_network("fd00:255::/64")])
INNER = ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1234, 80, 0x02))
WIDE = ipv6("2001:db8::1", "2001:db8::2", 6, tcp(1234, 80, 0x02))
BRIDGED = 0x6558


def gre(payload: bytes, kind: int = IPV4, flags: int = 0, words: int = 0) -> bytes:
    return ipv4(LEFT, RIGHT, 47, struct.pack(">HH", flags, kind) + bytes(4 * words) + payload)


def vxlan(payload: bytes) -> bytes:
    return ipv4(LEFT, RIGHT, 17, udp(50_000, 4_789, struct.pack(">II", 1 << 27, 5 << 8) + payload))


def geneve(payload: bytes, kind: int, words: int = 0) -> bytes:
    return ipv4(
        LEFT, RIGHT, 17, udp(50_000, 6_081, struct.pack(">BBHI", words, 0, kind, 5 << 8) + bytes(4 * words) + payload)
    )


def gtp(payload: bytes, first: int = 0x30, optional: bytes = b"") -> bytes:
    head = struct.pack(">BBHI", first, 0xFF, len(payload) + len(optional), 7)
    return ipv4(LEFT, RIGHT, 17, udp(2_152, 2_152, head + optional + payload))


TUNNELS = {
    "ip-in-ip": ipv4(LEFT, RIGHT, 4, INNER),
    "6in4": ipv4(LEFT, RIGHT, 41, WIDE),
    "over-ipv6": ipv6("fd00:255::1", "fd00:255::2", 4, INNER),
    "gre": gre(INNER),
    "gre-ipv6": gre(WIDE, IPV6),
    "gre-key-and-sequence": gre(INNER, flags=0x3000, words=2),
    "gre-checksum": gre(INNER, flags=0x8000, words=1),
    "gre-bridged": gre(ethernet(INNER), BRIDGED, flags=0x2000, words=1),
    "vxlan": vxlan(ethernet(INNER)),
    "geneve": geneve(ethernet(INNER), BRIDGED),
    "geneve-options": geneve(INNER, IPV4, words=3),
    "gtp": gtp(INNER),
    "gtp-sequence": gtp(INNER, 0x32, bytes(4)),
    "gtp-extension": gtp(INNER, 0x34, b"\0\0\0\x85" + b"\1\x10\1\0"),
    "vxlan-in-gre": gre(vxlan(ethernet(WIDE, IPV6))),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_the_inside_of_the_sites_own_tunnel_is_the_flow(name: str) -> None:
    outer = from_ip(TUNNELS[name])
    assert isinstance(outer, Packet)
    found = OWN.flow(outer)
    assert (found.protocol, found.ports, found.tcp_flags) == (6, (1234, 80), 2)
    assert str(ip_address(found.source)) in {"198.51.100.1", "2001:db8::1"}
    assert Tunnels().flow(outer) is outer, "of others it is what they say to each other"
    assert Tunnels([ip_network(f"{LEFT}/32")]).flow(outer) is outer, "with one end of the site's own alone, too"


@pytest.mark.parametrize("name", TUNNELS)
def test_sampled_headers_are_looked_into(name: str) -> None:
    kind = IPV6 if name == "over-ipv6" else IPV4
    payload = sflow(sample(raw_header(ethernet(TUNNELS[name], kind))), sample(raw_header(ethernet(INNER))))
    for tunnels, expected in ((OWN, {"198.51.100.1", "2001:db8::1"}), (Tunnels(), {LEFT, "fd00:255::1"})):
        (batch,) = Decoder(tunnels=tunnels).decode([datagram(payload)])
        assert address(batch.flows, 0) in expected
        assert address(batch.flows, 1) == "198.51.100.1"


@pytest.mark.parametrize(
    "packet",
    [
        gre(INNER, flags=1),
        gtp(INNER, 0x10),
        ipv4(LEFT, RIGHT, 17, udp(50_000, 53, INNER)),
        ipv4(LEFT, RIGHT, 4, INNER, offset=100),
        ipv4(LEFT, RIGHT, 6, tcp(1, 4_789, 0, INNER)),
    ],
    ids=["gre-of-another-version", "gtp-of-another-version", "no-tunnel", "fragment", "tcp"],
)
def test_what_is_no_tunnel_is_itself(packet: bytes) -> None:
    outer = from_ip(packet)
    assert isinstance(outer, Packet)
    assert inside(outer) is None
    assert OWN.flow(outer) is outer


@pytest.mark.parametrize("name", TUNNELS)
def test_what_is_cut_off_inside_is_known_by_its_outside(name: str) -> None:
    outer = from_ip(TUNNELS[name][:30] if name != "over-ipv6" else TUNNELS[name][:42])
    assert isinstance(outer, Packet)
    assert isinstance(inside(outer), Dropped)
    assert OWN.flow(outer) is outer


def test_tunnels_without_end_are_left_at_a_depth() -> None:
    packet = INNER
    for _ in range(50):
        packet = ipv4(LEFT, RIGHT, 4, packet)
    outer = from_ip(packet)
    assert isinstance(outer, Packet)
    assert OWN.flow(outer).protocol == 4


@given(st.data(), st.sampled_from(sorted(TUNNELS)))
def test_any_bytes_in_a_tunnel_are_a_packet_or_have_a_reason(data: st.DataObject, name: str) -> None:
    changed = bytearray(TUNNELS[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(20, len(changed) - 1), st.integers(0, 255)), max_size=8)):
        changed[at] = value
    outer = from_ip(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    if isinstance(outer, Packet):
        assert isinstance(OWN.flow(outer), Packet)
        assert inside(outer) is None or isinstance(inside(outer), Packet | Dropped)
