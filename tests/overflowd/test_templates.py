"""NetFlow v9 and IPFIX, set by set: templates that come late, change, are withdrawn, are too many, or are none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv6Address

import pytest

from jfe_cni.overflowd.decoders import Batch, Decoder, Limits
from jfe_cni.overflowd.decoders.domains import PIECE
from jfe_cni.overflowd.decoders.flows import NO_DIRECTION
from jfe_cni.overflowd.dropped import Dropped
from tests.overflowd.exports import (
    FLOW_FIELDS,
    NOW,
    UPTIME,
    VARIABLE,
    Spec,
    a_set,
    address,
    datagram,
    flow_record,
    ipfix,
    ipfix_template,
    v5,
    v5_record,
    v9,
    v9_options,
    v9_template,
)

RECORD = flow_record("198.51.100.1", "203.0.113.9")


def decoded(decoder: Decoder, *payloads: bytes) -> list[Batch]:
    return decoder.decode([datagram(each) for each in payloads])


def only(batches: list[Batch]) -> Batch:
    (batch,) = batches
    return batch


def test_a_record_of_v5_says_who_when_and_how_much() -> None:
    flows = only(decoded(Decoder(), v5(v5_record("198.51.100.1", "203.0.113.9"), sampling=1 << 14 | 100))).flows
    assert (address(flows, 0), address(flows, 0, "destination")) == ("198.51.100.1", "203.0.113.9")
    row = flows[0]
    assert (row["source_port"], row["destination_port"], row["protocol"], row["tcp_flags"]) == (1234, 80, 6, 0x12)
    assert (row["packets"], row["octets"], row["sampling"], row["input"], row["output"]) == (3, 180, 100, 4, 5)
    sent = NOW * 1_000_000 + 500_000
    assert (row["first"], row["last"]) == (sent - 2_000_000, sent - 1_000_000)


def test_a_direction_is_ingress_or_egress_or_not_told() -> None:
    records = b"".join(RECORD + bytes([direction]) for direction in (0, 1, 2, 255))
    told = ipfix(ipfix_template(256, (*FLOW_FIELDS, Spec(61, 1))), a_set(256, records))
    assert list(only(decoded(Decoder(), told)).flows["direction"]) == [0, 1, NO_DIRECTION, NO_DIRECTION]
    for silent in (
        ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD)),
        v5(v5_record("192.0.2.1", "192.0.2.2")),
    ):
        assert list(only(decoded(Decoder(), silent)).flows["direction"]) == [NO_DIRECTION]


def test_a_flow_from_before_the_uptime_started_anew_is_not_of_next_month() -> None:
    record = v5_record("198.51.100.1", "203.0.113.9").replace(
        struct.pack(">II", UPTIME - 2_000, UPTIME - 1_000), struct.pack(">II", 2**32 - 500, 250)
    )
    row = only(decoded(Decoder(), v5(record, uptime=500))).flows[0]
    sent = NOW * 1_000_000 + 500_000
    assert (row["first"], row["last"]) == (sent - 1_000_000, sent - 250_000)


@pytest.mark.parametrize("make", [ipfix, v9])
def test_records_of_many_datagrams_are_decoded_as_one(make: object) -> None:
    template = ipfix_template(256, FLOW_FIELDS) if make is ipfix else v9_template(256, FLOW_FIELDS)
    assert callable(make)
    batch = only(decoded(Decoder(), make(template), *(make(a_set(256, RECORD * 2, padding=3)) for _ in range(3))))
    assert len(batch.flows) == 6
    assert set(batch.flows["octets"]) == {180}
    assert batch.domain == 7


def test_data_that_come_before_their_template_are_decoded_when_it_comes() -> None:
    decoder = Decoder()
    assert decoded(decoder, ipfix(a_set(256, RECORD))) == []
    assert decoded(decoder, ipfix(a_set(257, RECORD))) == []
    assert len(only(decoded(decoder, ipfix(ipfix_template(256, FLOW_FIELDS)))).flows) == 1
    assert decoded(decoder, ipfix(ipfix_template(256, FLOW_FIELDS))) == [], "once"


def test_a_template_that_changes_is_another_from_then_on() -> None:
    shorter = (Spec(8, 4), Spec(12, 4))
    batches = decoded(
        Decoder(),
        ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD)),
        ipfix(ipfix_template(256, shorter), a_set(256, RECORD[:8])),
    )
    assert [len(each.flows) for each in batches] == [1, 1]
    assert [address(each.flows, 0) for each in batches] == ["198.51.100.1"] * 2
    assert [int(each.flows[0]["octets"]) for each in batches] == [180, 0]


@pytest.mark.parametrize("withdrawal", [struct.pack(">HH", 256, 0), struct.pack(">HH", 2, 0)], ids=["one", "all"])
def test_a_template_that_is_withdrawn_decodes_nothing_more(withdrawal: bytes) -> None:
    decoder = Decoder()
    decoded(decoder, ipfix(ipfix_template(256, FLOW_FIELDS)))
    assert decoded(decoder, ipfix(a_set(2, withdrawal)), ipfix(a_set(256, RECORD))) == []


def test_exporters_and_domains_have_templates_of_their_own() -> None:
    decoder = Decoder()
    decoded(decoder, ipfix(ipfix_template(256, FLOW_FIELDS), domain=1))
    assert decoded(decoder, ipfix(a_set(256, RECORD), domain=2)) == []
    assert decoder.decode([datagram(ipfix(a_set(256, RECORD), domain=1), exporter="192.0.2.2")]) == []
    assert len(decoded(decoder, ipfix(a_set(256, RECORD), domain=1))) == 1


def test_fields_of_any_length_of_other_enterprises_and_reversed() -> None:
    fields = (Spec(8, 4), Spec(82, VARIABLE), Spec(12, 4), Spec(5, VARIABLE, 4711), Spec(2, 4, 29305), Spec(2, 3))
    long = b"x" * 300
    records = b"".join(
        bytes([198, 51, 100, number]) + name + bytes([203, 0, 113, 9]) + b"\2ab" + bytes([0, 0, 0, 8, 0, 1, number])
        for number, name in ((1, b"\4eth0"), (2, b"\xff" + struct.pack(">H", 300) + long), (3, b"\0"))
    )
    batch, _ = decoded(Decoder(), ipfix(ipfix_template(256, fields), a_set(256, records, padding=2)))
    assert [address(batch.flows, row) for row in range(3)] == [f"198.51.100.{number}" for number in (1, 2, 3)]
    assert list(batch.flows["packets"]) == [257, 258, 259], "sent in three bytes"
    assert batch.columns is not None
    assert batch.columns.columns[1] == [b"eth0", long, b""]
    names = [each.element.name for each in batch.columns.template.fields]
    assert names[1:5] == [
        "interfaceName",
        "destinationIPv4Address",
        "enterprise4711Element5",
        "reversePacketDeltaCount",
    ]


def test_addresses_of_both_kinds_in_one_template() -> None:
    fields = (Spec(8, 4), Spec(27, 16), Spec(12, 4), Spec(28, 16))
    wide = IPv6Address("2001:db8::1").packed
    records = bytes([198, 51, 100, 1]) + bytes(16) + bytes([203, 0, 113, 9]) + bytes(16)
    records += bytes(4) + wide + bytes(4) + wide
    flows = only(decoded(Decoder(), ipfix(ipfix_template(256, fields), a_set(256, records)))).flows
    assert [address(flows, row) for row in range(2)] == ["198.51.100.1", "2001:db8::1"]


def test_times_in_all_their_forms() -> None:
    at = NOW * 1_000_000 - 5_000_000
    ntp = struct.pack(">II", NOW - 5 + 2_208_988_800, 0)
    for number, value in (
        (150, struct.pack(">I", NOW - 5)),
        (152, struct.pack(">Q", (NOW - 5) * 1_000)),
        (154, ntp),
        (156, ntp),
        (158, struct.pack(">I", 5_000_000)),
    ):
        message = ipfix(ipfix_template(256, [Spec(8, 4), Spec(number, len(value))]), a_set(256, bytes(4) + value))
        assert int(only(decoded(Decoder(), message)).flows[0]["first"]) == at, number
    initialised = struct.pack(">QI", (NOW - 100) * 1_000, 95_000)
    message = ipfix(ipfix_template(256, [Spec(8, 4), Spec(160, 8), Spec(22, 4)]), a_set(256, bytes(4) + initialised))
    assert int(only(decoded(Decoder(), message)).flows[0]["first"]) == at
    message = v9(v9_template(256, [Spec(8, 4), Spec(22, 4)]), a_set(256, struct.pack(">4xI", UPTIME - 5_000)))
    assert int(only(decoded(Decoder(), message)).flows[0]["first"]) == at


def test_each_record_has_the_sampling_of_its_sampler_also_when_it_is_told_later() -> None:
    fields = (*FLOW_FIELDS, Spec(48, 1))
    decoder = Decoder()
    data = v9(v9_template(256, fields), a_set(256, RECORD + b"\1" + RECORD + b"\2" + RECORD + b"\3"))
    assert list(only(decoded(decoder, data)).flows["sampling"]) == [0, 0, 0]
    samplers = struct.pack(">IBI", 1, 1, 100) + struct.pack(">IBI", 1, 2, 2000)
    options = v9(v9_options(257, [Spec(1, 4)], [Spec(48, 1), Spec(50, 4)]), a_set(257, samplers))
    assert list(only(decoded(decoder, data, options)).flows["sampling"]) == [100, 2000, 0]


@pytest.mark.parametrize(
    ("exported", "options"),
    [
        (v9, v9_options(300, (Spec(2, 4),), (Spec(34, 4),))),
        (ipfix, ipfix_template(300, (Spec(10, 4), Spec(34, 4)), scopes=1)),
        (ipfix, ipfix_template(300, (Spec(14, 4), Spec(34, 4)), scopes=1)),
    ],
)
def test_each_record_has_the_sampling_of_its_interface(exported: Callable[..., bytes], options: bytes) -> None:
    """Of the one that it came in by, where both are sampled."""
    template = v9_template if exported is v9 else ipfix_template
    fields = (*FLOW_FIELDS, Spec(10, 4), Spec(14, 4))
    told = a_set(300, struct.pack(">IIII", 1, 100, 2, 1_000))
    records = b"".join(RECORD + struct.pack(">II", *each) for each in ((1, 9), (2, 1), (9, 1), (9, 8)))
    batch = only(decoded(Decoder(), exported(options, told, template(256, fields), a_set(256, records))))
    assert batch.flows["sampling"].tolist() == [100, 1_000, 100, 0]


def test_a_record_that_says_nothing_of_its_sampling_has_what_was_said_of_all() -> None:
    """An interval of 0, which is none."""
    options = v9_options(300, (Spec(1, 4),), (Spec(34, 4),))
    told = a_set(300, struct.pack(">II", 7, 1_000))
    records = b"".join(RECORD + struct.pack(">I", interval) for interval in (0, 50))
    fields = (*FLOW_FIELDS, Spec(34, 4))
    batch = only(decoded(Decoder(), v9(options, told, v9_template(256, fields), a_set(256, records))))
    assert batch.flows["sampling"].tolist() == [1_000, 50]


def test_so_many_packets_and_then_so_many_not() -> None:
    options = ipfix_template(257, [Spec(302, 8), Spec(305, 4), Spec(306, 4)], scopes=1)
    told = a_set(257, struct.pack(">QII", 9, 1, 999))
    data = a_set(256, RECORD)
    batch = only(decoded(Decoder(), ipfix(ipfix_template(256, FLOW_FIELDS), options, told, data)))
    assert list(batch.flows["sampling"]) == [1000], "of the one sampler there is"


@pytest.mark.parametrize(
    ("fields", "told", "sampling"),
    [
        ((Spec(309, 4), Spec(310, 4)), struct.pack(">II", 3, 1_000), 333),
        ((Spec(309, 4), Spec(310, 4)), struct.pack(">II", 0, 1_000), 0),
        ((Spec(311, 8),), struct.pack(">d", 1 / 512), 512),
        ((Spec(311, 4),), struct.pack(">f", 0.001), 1_000),
        ((Spec(311, 8),), struct.pack(">d", 1e-300), 2**32 - 1),
        ((Spec(311, 8),), struct.pack(">d", 0), 0),
        ((Spec(311, 8),), struct.pack(">d", -1), 0),
        ((Spec(311, 8),), struct.pack(">d", float("nan")), 0),
        ((Spec(311, 3),), bytes(3), 0),
    ],
)
def test_so_many_of_so_many_or_each_with_a_probability(fields: tuple[Spec, ...], told: bytes, sampling: int) -> None:
    options = ipfix_template(257, [Spec(302, 8), *fields], scopes=1), a_set(257, struct.pack(">Q", 9) + told)
    batch = only(decoded(Decoder(), ipfix(*options, ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD))))
    assert list(batch.flows["sampling"]) == [sampling], "of options"
    own = ipfix(ipfix_template(256, (*FLOW_FIELDS, *fields)), a_set(256, RECORD + told))
    assert list(only(decoded(Decoder(), own)).flows["sampling"]) == [sampling], "of the record itself"


def test_data_of_a_template_without_addresses_make_no_rows() -> None:
    decoder = Decoder()
    assert decoded(decoder, ipfix(ipfix_template(256, [Spec(4, 1)]), a_set(256, bytes(1_000)))) == []
    assert decoder.drops == {Dropped.NO_ADDRESSES: 1}


def test_a_batch_has_so_many_records_and_those_of_one_datagram() -> None:
    decoder = Decoder(Limits(records=100))
    shortest = ipfix(ipfix_template(256, [Spec(8, 4)]), a_set(256, bytes(4 * 60)))
    payloads = [shortest] * 5 + [v5(*[v5_record("198.51.100.1", "203.0.113.9")] * 30)] * 5
    counts = [len(each.flows) for each in decoder.batches([datagram(each) for each in payloads])]
    assert sum(counts) == 5 * 60 + 5 * 30
    assert max(counts) <= 120


def test_what_exporters_may_make_us_remember_is_bounded() -> None:
    decoder = Decoder(Limits(domains=2, templates=3, waiting=16 * (40 + PIECE), waiting_of_one=40 + PIECE))
    for number in range(256, 262):
        decoded(decoder, ipfix(ipfix_template(number, FLOW_FIELDS), domain=1))
    assert decoder.drops == {Dropped.TOO_MANY_TEMPLATES: 3}
    # Those that were told last are known.
    assert len(decoded(decoder, *(ipfix(a_set(number, RECORD), domain=1) for number in range(259, 262)))) == 3
    for domain in (2, 3, 4):
        decoded(decoder, ipfix(a_set(300, bytes(40)), domain=domain))
    assert decoder.drops == {
        Dropped.TOO_MANY_TEMPLATES: 3,
        Dropped.TOO_MANY_EXPORTERS: 2,
        # Of the domain that was forgotten.
        Dropped.NO_TEMPLATE: 1,
    }
    decoded(decoder, ipfix(a_set(300, bytes(40)), domain=4))
    assert decoder.drops[Dropped.NO_TEMPLATE] == 2, "more than one domain may keep"


def test_a_template_that_is_told_again_stays_and_the_one_told_longest_ago_gives_way() -> None:
    decoder = Decoder(Limits(templates=2))
    for number in (256, 257, 256, 258):
        decoded(decoder, ipfix(ipfix_template(number, FLOW_FIELDS)))
    assert [len(decoded(decoder, ipfix(a_set(number, RECORD)))) for number in (256, 257, 258)] == [1, 0, 1]


@pytest.mark.parametrize("later", [1_801, -1_801], ids=["half an hour later", "the clock was set back"])
def test_data_that_have_waited_for_half_an_hour_are_given_up(later: int) -> None:
    decoder = Decoder()
    decoder.decode([datagram(ipfix(a_set(256, RECORD), a_set(257, RECORD)), at=NOW)])
    late = NOW + later
    assert decoder.decode([datagram(ipfix(ipfix_template(256, FLOW_FIELDS)), at=late)]) == []
    assert decoder.drops == {Dropped.NO_TEMPLATE: 2}, "also those whose template does not come"


def test_what_has_waited_in_vain_makes_room() -> None:
    decoder = Decoder(Limits(waiting_of_one=1_000))
    decoder.decode([datagram(ipfix(a_set(256, bytes(700))), at=NOW)])
    decoder.decode([datagram(ipfix(a_set(257, RECORD * 10)), at=NOW + 1_700)])
    assert decoder.drops == {Dropped.NO_TEMPLATE: 1}
    decoder.decode([datagram(ipfix(a_set(257, RECORD * 10)), at=NOW + 1_900)])
    (batch,) = decoder.decode([datagram(ipfix(ipfix_template(257, FLOW_FIELDS)), at=NOW + 2_000)])
    assert len(batch.flows) == 10


LIED_ABOUT = (*FLOW_FIELDS, Spec(82, VARIABLE))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Dropped.UNKNOWN_VERSION),
        (b"\0\7" + bytes(40), Dropped.UNKNOWN_VERSION),
        (b"\0\5" + bytes(10), Dropped.MALFORMED),
        (v5(v5_record("192.0.2.1", "192.0.2.2"))[:-1], Dropped.MALFORMED),
        (b"\0\x09" + bytes(10), Dropped.MALFORMED),
        (b"\0\x0a" + bytes(10), Dropped.MALFORMED),
        (ipfix(a_set(256, RECORD), length=1_000), Dropped.CUT_OFF),
        (ipfix(b"\1\0\0\3"), Dropped.MALFORMED),
        (ipfix(b"\1\0\1\0"), Dropped.MALFORMED),
        (ipfix(ipfix_template(256, FLOW_FIELDS)[:-2]), Dropped.MALFORMED),
        (ipfix(ipfix_template(256, [Spec(1, 0)])), Dropped.UNFIT_TEMPLATE),
        (ipfix(ipfix_template(256, [Spec(1, 65_000)] * 2)), Dropped.UNFIT_TEMPLATE),
        (ipfix(ipfix_template(256, [Spec(8, 4), *[Spec(1, 0)] * 4])), Dropped.UNFIT_TEMPLATE),
        (ipfix(a_set(3, struct.pack(">HHH", 256, 1, 2) + bytes(4))), Dropped.MALFORMED),
        (v9(a_set(1, struct.pack(">HHH", 256, 3, 4) + bytes(8))), Dropped.MALFORMED),
        (b"\0\0\0\5" + bytes(8), Dropped.MALFORMED),
        (ipfix(ipfix_template(256, FLOW_FIELDS), length=15), Dropped.MALFORMED),
        (ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD[:12])), Dropped.CUT_OFF),
        (ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD + RECORD[:20])), Dropped.CUT_OFF),
        (ipfix(ipfix_template(256, LIED_ABOUT), a_set(256, RECORD + b"\2ab" + RECORD + b"\xc8ab")), Dropped.CUT_OFF),
        (v9(a_set(200, bytes(8))), Dropped.UNKNOWN_FORMAT),
        (ipfix(a_set(4, bytes(8)), a_set(256, b"")), Dropped.UNKNOWN_FORMAT),
        # Another message behind it.
        (ipfix(a_set(256, b"")) + ipfix(a_set(256, b"")), Dropped.CUT_OFF),
    ],
)
def test_what_is_not_decoded_has_a_reason(payload: bytes, reason: Dropped) -> None:
    decoder = Decoder()
    decoded(decoder, payload)
    assert decoder.drops == {reason: 1}


def test_what_comes_before_the_damage_is_decoded() -> None:
    decoder = Decoder()
    batch = only(decoded(decoder, ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD), b"\1\0\0\3")))
    assert len(batch.flows) == 1
    assert decoder.drops[Dropped.MALFORMED] == 1
