"""sFlow: samples of packets, with their headers or as summaries, normal or expanded."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders import Batch, Decoder
from jfe_cni.overflowd.decoders.flows import EGRESS, INGRESS, NO_DIRECTION
from jfe_cni.overflowd.decoders.samples import ETHERNET, flows_of
from jfe_cni.overflowd.decoders.sflow import Sample
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.packets import Packet, from_ethernet
from jfe_cni.overflowd.tunnels import Tunnels
from tests.overflowd.exports import NOW, address, datagram, real
from tests.overflowd.frames import IPV6, ethernet, ipv4, ipv6, tcp, udp
from tests.overflowd.test_real_exports import decode

AGENT = IPv4Address("192.0.2.77")
FRAME = ethernet(ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1234, 80, 0x02)))


def sflow(*samples: bytes, agent: bytes = b"\0\0\0\1" + AGENT.packed, count: int | None = None) -> bytes:
    head = struct.pack(">I", 5) + agent + struct.pack(">IIII", 9, 1, 1000, len(samples) if count is None else count)
    return head + b"".join(samples)


def sample(*records: bytes, kind: int = 1, received: int = 3, sent: int = 4, source: int = 0) -> bytes:
    body = struct.pack(">IIIIIIII", 1, source, 512, 10_000, 0, received, sent, len(records)) + b"".join(records)
    return struct.pack(">II", kind, len(body)) + body


def expanded(
    *records: bytes,
    received: tuple[int, int] = (0, 300_000),
    sent: tuple[int, int] = (0, 4),
    source: tuple[int, int] = (0, 1),
) -> bytes:
    head = struct.pack(">IIIIIIIIIII", 1, *source, 512, 10_000, 0, *received, *sent, len(records))
    body = head + b"".join(records)
    return struct.pack(">II", 3, len(body)) + body


def record(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(">II", kind, len(body)) + body


def raw_header(header: bytes, octets: int = 1_500, protocol: int = 1) -> bytes:
    return record(1, struct.pack(">IIII", protocol, octets, 4, len(header)) + header)


def decoded(payload: bytes) -> tuple[list[Batch], Decoder]:
    decoder = Decoder()
    return decoder.decode([datagram(payload)]), decoder


@pytest.mark.parametrize(
    ("made", "direction"),
    [
        (sample(raw_header(FRAME), source=3), INGRESS),
        (sample(raw_header(FRAME), source=4), EGRESS),
        (sample(raw_header(FRAME), source=5), NO_DIRECTION),
        # A VLAN, whose number is an interface's (sFlowDataSource, sflow_version_5.txt).
        (sample(raw_header(FRAME), source=1 << 24 | 3), NO_DIRECTION),
        (sample(raw_header(FRAME), received=3, sent=3, source=3), NO_DIRECTION),
        (expanded(raw_header(FRAME), source=(0, 300_000)), INGRESS),
        (expanded(raw_header(FRAME), source=(0, 4)), EGRESS),
        (expanded(raw_header(FRAME), source=(1, 4)), NO_DIRECTION),
    ],
)
def test_which_interface_sampled_a_packet_tells_its_direction(made: bytes, direction: int) -> None:
    (batch,), _ = decoded(sflow(made))
    assert batch.flows["direction"].tolist() == [direction]


IP = ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1234, 80, 0x02))


@pytest.mark.parametrize(
    ("protocol", "header"),
    [
        (11, IP),
        (13, bytes.fromhex("0001 0140") + IP),
        (7, bytes.fromhex("0021") + IP),
        (14, bytes.fromhex("ff03 0021") + IP),
        (14, bytes.fromhex("ff03 0281 0001 0140") + IP),
    ],
)
def test_headers_of_other_links_than_ethernet(protocol: int, header: bytes) -> None:
    """header_protocol: IPv4, MPLS, PPP, and packets over SONET, which are framed as PPP is."""
    (batch,), decoder = decoded(sflow(sample(raw_header(header, protocol=protocol))))
    assert (address(batch.flows, 0), int(batch.flows[0]["destination_port"])) == ("198.51.100.1", 80)
    assert not decoder.drops


def test_a_sampled_header_is_one_packet_of_so_many() -> None:
    (batch,), _ = decoded(sflow(sample(raw_header(FRAME))))
    row = batch.flows[0]
    assert (address(batch.flows, 0), address(batch.flows, 0, "destination")) == ("198.51.100.1", "203.0.113.9")
    assert (row["source_port"], row["destination_port"], row["protocol"], row["tcp_flags"]) == (1234, 80, 6, 2)
    assert (row["packets"], row["octets"], row["sampling"], row["input"], row["output"]) == (1, 1_500, 512, 3, 4)
    assert row["first"] == row["last"] == NOW * 1_000_000
    assert row["direction"] == NO_DIRECTION
    assert (batch.agent, batch.domain) == (AGENT, 9)


def test_expanded_samples_have_interfaces_of_all_their_bits() -> None:
    (batch,), _ = decoded(sflow(expanded(raw_header(FRAME))))
    assert (batch.flows[0]["input"], batch.flows[0]["output"]) == (300_000, 4)


@pytest.mark.parametrize(
    ("made", "interfaces"),
    [
        (sample(raw_header(FRAME), sent=2 << 30 | 2), (3, 0)),
        (sample(raw_header(FRAME), sent=0x3FFFFFFF), (3, 0)),
        (sample(raw_header(FRAME), received=0x3FFFFFFF), (0, 4)),
        (sample(raw_header(FRAME), received=3 << 30 | 4), (0, 4)),
        (expanded(raw_header(FRAME), sent=(2, 2)), (300_000, 0)),
        (expanded(raw_header(FRAME), sent=(0, 0x3FFFFFFF)), (300_000, 0)),
        (expanded(raw_header(FRAME), received=(0, 0xFFFFFFFF)), (0, 4)),
        (expanded(raw_header(FRAME), received=(2, 4)), (0, 4)),
    ],
)
def test_what_is_not_one_interface_is_none(made: bytes, interfaces: tuple[int, int]) -> None:
    (batch,), _ = decoded(sflow(made))
    assert (batch.flows[0]["input"], batch.flows[0]["output"]) == interfaces


@pytest.mark.parametrize(
    "made",
    [sample(raw_header(FRAME), sent=1 << 30 | 258), expanded(raw_header(FRAME), sent=(1, 258))],
    ids=["normal", "expanded"],
)
def test_a_packet_that_was_discarded_is_no_flow(made: bytes) -> None:
    batches, decoder = decoded(sflow(made, sample(raw_header(FRAME))))
    assert [len(each.flows) for each in batches] == [1]
    assert decoder.drops == {Dropped.DISCARDED: 1}


def test_counters_and_unknown_records_are_skipped() -> None:
    counters = struct.pack(">II", 2, 8) + bytes(8)
    (batch,), decoder = decoded(sflow(counters, sample(record(1001, bytes(16)), raw_header(FRAME))))
    assert len(batch.flows) == 1
    assert decoder.drops == {Dropped.UNKNOWN_FORMAT: 1}


@pytest.mark.parametrize(
    ("kind", "source"), [(3, IPv4Address("198.51.100.1")), (4, IPv6Address("2001:db8::1"))], ids=["ipv4", "ipv6"]
)
def test_a_summary_is_as_good_as_a_header(kind: int, source: IPv4Address | IPv6Address) -> None:
    ends = source.packed + (source + 1).packed
    summary = record(kind, struct.pack(">II", 800, 17) + ends + struct.pack(">IIII", 53, 5353, 0, 0))
    (batch,), _ = decoded(sflow(sample(summary)))
    row = batch.flows[0]
    assert address(batch.flows, 0) == str(source)
    assert (row["octets"], row["protocol"], row["source_port"], row["destination_port"]) == (800, 17, 53, 5353)


FRAMES = [
    FRAME.ljust(80, b"x"),
    ethernet(ipv4("198.51.100.1", "203.0.113.9", 17, udp(53, 5353, bytes(40)))),
    ethernet(ipv6("2001:db8::1", "2001:db8::2", 6, tcp(1, 2, 0x12)), IPV6),
    ethernet(ipv6("2001:db8::1", "2001:db8::2", 17, udp(1, 2, bytes(40))), IPV6),
]


PLACES = st.lists(st.tuples(st.integers(0, 75), st.integers(0, 255)), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(FRAMES), PLACES), max_size=6))
def test_what_is_read_by_the_thousand_is_what_is_read_one_by_one(
    changes: list[tuple[bytes, list[tuple[int, int]]]],
) -> None:
    headers = []
    for frame, places in changes:
        header = bytearray(frame)
        for at, value in places:
            header[at % len(header)] = value
        headers.append(bytes(header))
    together, drops = [Sample(each, ETHERNET, 100, 1, 0, 0, 0) for each in headers], Drops()
    flows = flows_of(together, [NOW] * len(together), drops, Tunnels())
    packets = [packet for each in headers if isinstance(packet := from_ethernet(each), Packet)]
    assert len(flows) == len(packets)
    assert drops.total() == len(headers) - len(packets)
    for row, packet in zip(flows, packets, strict=True):
        expected = (*packet.ports, packet.protocol, packet.tcp_flags)
        assert tuple(row[["source_port", "destination_port", "protocol", "tcp_flags"]]) == expected
        ends = [row[name].tobytes()[-len(packet.source) :] for name in ("source", "destination")]
        assert ends == [packet.source, packet.destination]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (sflow(sample(raw_header(FRAME)), agent=b"\0\0\0\7" + bytes(4)), Dropped.MALFORMED),
        (sflow(sample(raw_header(FRAME)), count=2), Dropped.MALFORMED),
        (sflow(sample(raw_header(FRAME)))[:-8], Dropped.MALFORMED),
        (sflow(sample(raw_header(FRAME)[:-4] + bytes(2))), Dropped.MALFORMED),
        (sflow(sample(raw_header(b"\0" * 14))), Dropped.UNKNOWN_HEADER),
        (sflow(sample(raw_header(FRAME, protocol=7))), Dropped.UNKNOWN_HEADER),
        (sflow(sample()), Dropped.UNKNOWN_HEADER),
    ],
)
def test_what_is_not_decoded_has_a_reason(payload: bytes, reason: Dropped) -> None:
    _, decoder = decoded(payload)
    assert decoder.drops[reason] == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # As akvorado, another collector, decodes them.
        ("sf-data-1140.pcap", 1024),
        ("sf-data-sflow-expanded-sample.pcap", 1000),
        ("sf-data-sflow-ipv4-data.pcap", 256),
        ("sf-data-icmpv6.pcap", 1),
        ("sf-data-sflow-raw-ipv4.pcap", 1),
    ],
)
def test_real_samples_are_all_decoded(name: str, expected: int) -> None:
    batches, drops = decode(real(name))
    assert {int(rate) for batch in batches for rate in batch.flows["sampling"]} == {expected}
    assert not drops
