"""What the agent sends is IPFIX: read back by overflowd's decoder, and by Wireshark's, which knows nothing of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from struct import pack, unpack_from

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.agent.flows.flow import Address, Direction, EndReason, Ends, Flow
from jfe_cni.agent.flows.ipfix import LARGEST_MESSAGE, TEMPLATE_SECONDS, Encoder
from jfe_cni.overflowd.datagrams import Datagram, address_of
from jfe_cni.overflowd.decoders import Batch, Decoder
from jfe_cni.overflowd.decoders.flows import NO_DIRECTION
from tests.stage.programs import program

NOW = 1_800_000_000.0
COLLECTOR_PORT = 4739

PORTS = st.integers(0, 65_535)
COUNTS = st.integers(1, 2**64 - 1)
# Microseconds are what the decoder has, in 64 bits.
TIMES = st.integers(1, 2**43)


def ends_of(addresses: st.SearchStrategy[Address]) -> st.SearchStrategy[Ends]:
    return st.builds(Ends, addresses, PORTS, addresses, PORTS)


def unlike_mapped(address: Address) -> bool:
    """The decoder holds IPv4 addresses as mapped ones; and zeroes are no address."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is None and int(address) != 0


ENDS = st.one_of(
    ends_of(st.ip_addresses(v=4)),
    ends_of(st.ip_addresses(v=6).filter(unlike_mapped)),
)
COVERED = st.builds(
    Flow, ENDS, st.just(6), COUNTS, COUNTS, TIMES, TIMES, st.sampled_from(EndReason), st.sampled_from(Direction), PORTS
)
WITH_PORTS = st.builds(
    Flow, ENDS, st.sampled_from([6, 17, 132]), COUNTS, COUNTS, TIMES, TIMES, st.sampled_from(EndReason)
)
ICMP = st.builds(Flow, ENDS, st.sampled_from([1, 58]), COUNTS, COUNTS, TIMES, TIMES, st.sampled_from(EndReason)).map(
    lambda flow: Flow(
        flow.ends._replace(source_port=0), flow.protocol, flow.packets, flow.octets, flow.first, flow.last, flow.end
    )
)
FLOWS = st.lists(st.one_of(COVERED, WITH_PORTS, ICMP), max_size=120)


def flow(ends: Ends, protocol: int = 17, packets: int = 20_000, **more: object) -> Flow:
    return Flow(ends, protocol, packets, packets * 100, 1_000, 2_000, EndReason.ACTIVE, **more)  # type: ignore[arg-type]


IPV4 = Ends(IPv4Address("192.0.2.1"), 40_000, IPv4Address("198.51.100.7"), 53)
IPV6 = Ends(IPv6Address("2001:db8::1"), 40_000, IPv6Address("2001:db8::2"), 53)


def read_back(payloads: list[bytes]) -> list[Batch]:
    decoder = Decoder()
    batches = decoder.decode([Datagram(IPv4Address("192.0.2.9"), COLLECTOR_PORT, 0, each) for each in payloads])
    assert not decoder.drops
    return batches


def told(batches: list[Batch]) -> Iterator[tuple[object, ...]]:
    for batch in batches:
        for row in batch.flows:
            source, destination = (address_of(row[name].tobytes()) for name in ("source", "destination"))
            numbers = ("protocol", "packets", "octets", "first", "last", "direction", "tcp_flags")
            yield (
                Ends(source, int(row["source_port"]), destination, int(row["destination_port"])),
                *(int(row[name]) for name in numbers),
            )


def meant(flow: Flow) -> tuple[object, ...]:
    times = (flow.first * 1000, flow.last * 1000)
    direction = NO_DIRECTION if flow.direction is None else flow.direction
    return (flow.ends, flow.protocol, flow.packets, flow.octets, *times, direction, flow.tcp_flags)


@given(FLOWS)
def test_every_flow_is_read_back_as_it_was_told_by_messages_that_pass_any_path(flows: list[Flow]) -> None:
    messages = list(Encoder(1).messages(flows, NOW))
    assert all(len(message.payload) <= LARGEST_MESSAGE for message in messages)
    assert sum(message.flows for message in messages) == len(flows)
    batches = read_back([message.payload for message in messages])
    assert sorted(told(batches), key=repr) == sorted(map(meant, flows), key=repr)
    # Each packet is counted, which the collector knows from the first record on.
    assert all((batch.flows["sampling"] == 1).all() for batch in batches)


@given(st.lists(FLOWS, min_size=2, max_size=4))
def test_the_sequence_number_is_of_the_data_records_before_each_message(turns: list[list[Flow]]) -> None:
    encoder = Encoder(7)
    messages = [message for flows in turns for message in encoder.messages(flows, NOW)]
    numbers = [unpack_from("!I", message.payload, 8)[0] for message in messages]
    assert numbers[0] == 0
    for (before, after), message in zip(pairwise(numbers), messages, strict=False):
        assert after - before == message.flows
    assert {unpack_from("!I", message.payload, 12)[0] for message in messages} <= {7}


def test_sequence_numbers_begin_again_after_the_largest() -> None:
    encoder = Encoder(1, sequence=2**32 - 1)
    first, last = (list(encoder.messages([flow(IPV4)], NOW))[-1] for _ in range(2))
    assert [unpack_from("!I", message.payload, 8)[0] for message in (first, last)] == [2**32 - 1, 0]


def test_templates_come_first_then_by_the_clock_and_at_once_when_the_collector_is_another() -> None:
    encoder = Encoder(1)

    def has_templates(now: float) -> bool:
        messages = list(encoder.messages([flow(IPV4)], now))
        return bool(unpack_from("!H", messages[0].payload, 16)[0] == 2)

    assert has_templates(NOW)
    assert not has_templates(NOW + TEMPLATE_SECONDS - 1)
    assert has_templates(NOW + TEMPLATE_SECONDS)
    assert not has_templates(NOW + TEMPLATE_SECONDS + 1)
    encoder.begin_anew()
    assert has_templates(NOW + TEMPLATE_SECONDS + 2)


def test_where_there_is_nothing_to_tell_templates_come_by_the_clock_all_the_same() -> None:
    encoder = Encoder(1)
    assert [len(list(encoder.messages([], NOW + second))) for second in (0, 1, TEMPLATE_SECONDS)] == [1, 0, 1]


def test_wireshark_reads_the_same(tmp_path: Path) -> None:
    icmp = Ends(IPV4.source, 0, IPV4.destination, 8 << 8)
    flows = [
        flow(IPV4),
        flow(IPV6, packets=3),
        flow(IPV4, 6, 10, direction=Direction.EGRESS, tcp_flags=0x12),
        flow(icmp, 1, 4),
    ]
    messages = [message.payload for message in Encoder(1).messages(flows, NOW)]
    (tmp_path / "export.pcap").write_bytes(capture(messages))
    names = ("srcaddr", "srcaddrv6", "dstaddr", "srcport", "dstport", "protocol", "packets", "octets", "direction",
             "sampling_interval")  # fmt: skip
    fields = [word for name in names for word in ("-e", f"cflow.{name}")]
    said = subprocess.run(
        [
            *(program("tshark"), "-n", "-r", str(tmp_path / "export.pcap"), "-d", f"udp.port=={COLLECTOR_PORT},cflow"),
            *("-Y", "cflow.packets", "-T", "fields", "-E", "separator=;", *fields),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert said == [
        "192.0.2.1;;198.51.100.7;40000;53;17;20000;2000000;;1",
        ";2001:db8::1;;40000;53;17;3;300;;1",
        "192.0.2.1;;198.51.100.7;40000;53;6;10;1000;1;1",
        "192.0.2.1;;198.51.100.7;;;1;4;400;;1",
    ]


def capture(payloads: list[bytes]) -> bytes:
    """pcap (draft-ietf-opsawg-pcap) of datagrams in IPv4, without a link layer: LINKTYPE_RAW, 101."""
    packets = []
    for payload in payloads:
        datagram = pack("!HHHH", 40_001, COLLECTOR_PORT, 8 + len(payload), 0) + payload
        header = pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, bytes(4), bytes(4))
        packet = header + datagram
        packets.append(pack("<IIII", int(NOW), 0, len(packet), len(packet)) + packet)
    return pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101) + b"".join(packets)
