"""Records that tell of both ways (RFC 5103, and what a responder sent) are two flows; and what else counts packets."""

from __future__ import annotations

import struct

import pytest

from jfe_cni.overflowd.decoders import Batch, Decoder
from jfe_cni.overflowd.decoders.flows import NO_DIRECTION, both_ends
from jfe_cni.overflowd.selection.odds import packets_behind
from tests.overflowd.exports import Spec, a_set, address, datagram, ipfix, ipfix_template

REVERSE = 29305
ENDS = bytes([198, 51, 100, 1, 203, 0, 113, 9]) + struct.pack(">HHB", 1234, 80, 6)
END_FIELDS = (Spec(8, 4), Spec(12, 4), Spec(7, 2), Spec(11, 2), Spec(4, 1))


def decoded(fields: tuple[Spec, ...], *records: bytes) -> list[Batch]:
    told = ipfix(ipfix_template(256, (*END_FIELDS, *fields)), a_set(256, b"".join(ENDS + each for each in records)))
    return Decoder().decode([datagram(told)])


@pytest.mark.parametrize(
    "back", [(Spec(2, 4, REVERSE), Spec(1, 8, REVERSE), Spec(6, 1, REVERSE)), (Spec(299, 4), Spec(232, 8), Spec(6, 1))]
)
def test_what_went_the_other_way_is_a_flow_with_its_ends_changed(back: tuple[Spec, ...]) -> None:
    fields = (Spec(2, 4), Spec(1, 8), Spec(10, 4), Spec(14, 4), *back)
    there, here = struct.pack(">IQII", 3, 180, 4, 5), struct.pack(">IQB", 1_000_000, 64_000_000, 0x12)
    forward, backward = (each.flows for each in decoded(fields, there + here, there + bytes(13)))
    assert [int(each) for each in forward["packets"]] == [3, 3]
    assert len(backward) == 1, "of the second record nothing came back"
    assert (address(backward, 0), address(backward, 0, "destination")) == ("203.0.113.9", "198.51.100.1")
    row = backward[0]
    assert (row["source_port"], row["destination_port"], row["input"], row["output"]) == (80, 1234, 5, 4)
    assert (row["packets"], row["octets"], row["direction"]) == (1_000_000, 64_000_000, NO_DIRECTION)
    assert row["tcp_flags"] == (0x12 if back[2].enterprise else 0)


def test_octets_without_packets_are_of_one_packet_at_least() -> None:
    (batch,) = decoded((Spec(231, 8),), struct.pack(">Q", 5_000_000), struct.pack(">Q", 0))
    assert packets_behind(batch.flows["packets"], batch.flows["sampling"]).tolist() == [1, 0]


def test_no_confidence_limit_is_a_time() -> None:
    """336, which is one, has been taken for a flow's start."""
    (batch,) = decoded((Spec(336, 8),), struct.pack(">d", 0.95))
    assert batch.flows["first"].tolist() == [0]


@pytest.mark.parametrize("parts", [(Spec(176, 1), Spec(177, 1)), (Spec(178, 1), Spec(179, 1)), (Spec(32, 2),)])
def test_the_type_and_code_of_icmp_are_in_the_place_of_the_destinations_port(parts: tuple[Spec, ...]) -> None:
    fields = (Spec(8, 4), Spec(12, 4), Spec(4, 1), *parts)
    told = ipfix(ipfix_template(256, fields), a_set(256, ENDS[:8] + bytes([1, 3, 4])))
    (batch,) = Decoder().decode([datagram(told)])
    assert batch.flows["destination_port"].tolist() == [3 << 8 | 4]


def test_when_a_device_was_started_is_taken_from_options_where_the_protocol_does_not_say_it() -> None:
    options = ipfix_template(300, (Spec(149, 4), Spec(160, 8)), scopes=1)
    began = 1_699_999_000_000
    fields = (*END_FIELDS, Spec(22, 4), Spec(21, 4))
    told = ipfix(
        options,
        a_set(300, struct.pack(">IQ", 7, began)),
        ipfix_template(256, fields),
        a_set(256, ENDS + struct.pack(">II", 5_000, 6_000)),
    )
    (batch,) = Decoder().decode([datagram(told)])
    assert (batch.flows["first"][0], batch.flows["last"][0]) == ((began + 5_000) * 1_000, (began + 6_000) * 1_000)


@pytest.mark.parametrize(
    ("fields", "record", "both"),
    [
        ((Spec(12, 4),), ENDS[4:8], False),
        ((Spec(8, 4), Spec(28, 16)), ENDS[:4] + bytes(15) + b"\1", False),
        ((Spec(8, 4), Spec(12, 4)), ENDS[:8], True),
        ((Spec(27, 16), Spec(28, 16)), bytes(15) + b"\1" + bytes(15) + b"\2", True),
    ],
)
def test_of_whom_there_are_both_ends(fields: tuple[Spec, ...], record: bytes, *, both: bool) -> None:
    (batch,) = Decoder().decode([datagram(ipfix(ipfix_template(256, fields), a_set(256, record)))])
    assert both_ends(batch.flows).tolist() == [both]
