"""An eavesdropper's reading of a capture: what is on the wire comes out, once and in order, and nothing else."""

import ipaddress
import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.demo.capture import Flow, legible, streams, tls_records
from jfe_cni.demo.stage import PORT, wire_of
from jfe_cni.errors import RequestError

CLIENT = ipaddress.IPv4Address("198.18.5.2")
SERVER = ipaddress.IPv4Address("198.18.5.9")
THERE = Flow(CLIENT, 40_000, SERVER, PORT)
BACK = Flow(SERVER, PORT, CLIENT, 40_000)


def frame(flow: Flow, sequence: int, payload: bytes, padding: bytes = b"") -> bytes:
    tcp = struct.pack("!HHIIBBHHH", flow.source_port, flow.destination_port, sequence % 2**32, 0, 5 << 4, 0x18, 0, 0, 0)
    length = len(tcp) + len(payload)
    if isinstance(flow.source, ipaddress.IPv4Address):
        packet = (
            struct.pack("!BBHIBBH", 0x45, 0, 20 + length, 0, 64, 6, 0) + flow.source.packed + flow.destination.packed
        )
        kind = 0x0800
    else:
        packet = struct.pack("!IHBB", 6 << 28, length, 6, 64) + flow.source.packed + flow.destination.packed
        kind = 0x86DD
    return b"\2" * 12 + struct.pack("!H", kind) + packet + tcp + payload + padding


def capture(*frames: bytes, link: int = 1) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link)
    return head + b"".join(struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames)


def test_both_directions_of_a_connection_come_out() -> None:
    found = streams(capture(frame(THERE, 1, b"GET "), frame(BACK, 9, b"200"), frame(THERE, 5, b"/")))
    assert found == {THERE: b"GET /", BACK: b"200"}


def test_ipv6_comes_out_too() -> None:
    flow = Flow(ipaddress.IPv6Address("fd00::2"), 40_000, ipaddress.IPv6Address("fd00::9"), PORT)
    assert streams(capture(frame(flow, 1, b"hello"))) == {flow: b"hello"}


def test_ethernet_padding_is_not_taken_for_data() -> None:
    assert streams(capture(frame(THERE, 1, b"x", padding=bytes(5)))) == {THERE: b"x"}


def test_what_is_sent_again_counts_once() -> None:
    found = streams(capture(frame(THERE, 1, b"abc"), frame(THERE, 1, b"abcd"), frame(THERE, 3, b"cde")))
    assert found == {THERE: b"abcde"}


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_any_order_and_any_first_number_give_the_same_bytes(first: int, parts: list[bytes], chance: Random) -> None:
    frames, at = [], first
    for part in parts:
        frames.append(frame(THERE, at, part))
        at += len(part)
    chance.shuffle(frames)
    assert streams(capture(*frames)) == {THERE: b"".join(parts)}


def test_frames_that_hold_no_whole_segment_are_passed_over() -> None:
    arp = b"\2" * 12 + b"\x08\x06" + bytes(28)
    assert streams(capture(arp, frame(THERE, 1, b"x")[:40], b"")) == {}


@pytest.mark.parametrize("file", [b"", b"PK\3\4 and more than a header", capture(link=113)])
def test_another_kind_of_file_is_named_as_such(file: bytes) -> None:
    with pytest.raises(RequestError, match=r"pcap|Ethernet"):
        streams(file)


def test_tls_records_are_told_from_anything_else() -> None:
    hello = b"\x16\x03\x01\x00\x03abc"
    data = b"\x17\x03\x03\x00\x02de"
    assert tls_records(hello + data) == [("handshake", 3), ("application data", 2)]
    assert tls_records(b"GET / HTTP/1.1\r\n") == []
    assert tls_records(data + b"HTTP/1.0 200 OK") == []
    assert tls_records(b"") == []


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_stream_that_ends_inside_a_record_is_no_whole_tls(cut: int) -> None:
    hello = b"\x16\x03\x01\x00\x06abcdef"
    assert tls_records(hello[:-cut]) == []


def test_legible_shows_dots_for_what_is_not_printable() -> None:
    assert legible(b"ab\0\xffcd\nrest", 7) == "ab··cd"


def test_a_bare_fetch_is_read_by_an_eavesdropper() -> None:
    page = b"Dear reader, the word is x."
    request = b"GET /letter.txt HTTP/1.1\r\n\r\n"
    wire = wire_of(capture(frame(THERE, 1, request), frame(BACK, 1, b"HTTP/1.0 200 OK\r\n\r\n" + page)), page)
    assert wire.clear_text
    assert not wire.all_tls
    assert wire.connections == (("198.18.5.2", "198.18.5.9"),)
    assert page.decode() in wire.read


def test_a_fetch_under_cover_is_not() -> None:
    record = b"\x17\x03\x03\x00\x04\1\2\3\4"
    wire = wire_of(capture(frame(THERE, 1, record), frame(BACK, 1, record)), b"Dear reader")
    assert not wire.clear_text
    assert wire.all_tls
    assert "8 bytes of application data" in wire.read


def test_one_clear_byte_beside_the_records_is_noticed() -> None:
    record = b"\x17\x03\x03\x00\x04\1\2\3\4"
    wire = wire_of(capture(frame(THERE, 1, record), frame(BACK, 1, record + b"x")), b"Dear reader")
    assert not wire.all_tls


def test_an_empty_capture_proves_nothing() -> None:
    wire = wire_of(capture(), b"Dear reader")
    assert not wire.all_tls
    assert wire.connections == ()
