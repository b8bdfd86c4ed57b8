"""What anybody may send: nothing that comes stops a decoder."""

from __future__ import annotations

import collections
import random
import struct
import tracemalloc
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder, Limits
from jfe_cni.overflowd.decoders.domains import PIECE
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.records import lines
from tests.overflowd.exports import (
    FLOW_FIELDS,
    VARIABLE,
    Spec,
    a_set,
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
from tests.overflowd.frames import ethernet, ipv4, tcp
from tests.overflowd.test_sflow import expanded, raw_header, sample, sflow

RECORD = flow_record("198.51.100.1", "203.0.113.9")
GOOD = (
    v5(v5_record("198.51.100.1", "203.0.113.9")),
    v9(v9_template(256, FLOW_FIELDS), a_set(256, RECORD)),
    v9(v9_options(257, [Spec(1, 4)], [Spec(48, 1), Spec(50, 4)]), a_set(257, bytes(9))),
    ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD)),
    ipfix(ipfix_template(258, [Spec(8, 4), Spec(82, VARIABLE)]), a_set(258, bytes(4) + b"\2ab")),
    sflow(sample(raw_header(ethernet(ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1, 2, 2)))))),
    sflow(expanded(raw_header(ethernet(ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1, 2, 2)))))),
)


def take(decoder: Decoder, *payloads: bytes) -> None:
    for batch in decoder.decode([datagram(each) for each in payloads]):
        assert sum(1 for _ in lines(batch)) == len(batch.flows)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes(payloads: list[bytes]) -> None:
    take(Decoder(), *payloads)


@given(st.sampled_from([b"\0\5", b"\0\x09", b"\0\x0a", b"\0\0\0\5"]), st.binary(max_size=300))
def test_any_bytes_behind_a_version(version: bytes, rest: bytes) -> None:
    take(Decoder(), version + rest)


@settings(max_examples=400)
@given(st.data())
def test_good_exports_with_any_bytes_changed_one_after_another(data: st.DataObject) -> None:
    decoder = Decoder()
    for _ in range(data.draw(st.integers(1, 6))):
        payload = bytearray(data.draw(st.sampled_from(GOOD)))
        places = st.tuples(st.integers(0, len(payload) - 1), st.integers(0, 255))
        for at, value in data.draw(st.lists(places, max_size=6)):
            payload[at] = value
        take(decoder, bytes(payload[: data.draw(st.integers(0, len(payload)))]), bytes(payload))


@given(st.lists(st.tuples(st.integers(0, 600), st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 40, VARIABLE])), max_size=12))
def test_any_template_and_zeros_for_records(fields: list[tuple[int, int]]) -> None:
    template = ipfix_template(256, [Spec(*each) for each in fields])
    take(Decoder(), ipfix(template, a_set(256, bytes(600))))


def test_a_flood_of_random_datagrams_is_remembered_within_limits() -> None:
    source = random.Random(2016)
    decoder = Decoder(Limits(domains=64, templates=8, waiting=100_000, waiting_of_one=20_000))
    versions = (b"\0\5", b"\0\x09", b"\0\x0a", b"\0\0\0\5")
    for _ in range(300):
        payloads = [source.choice(versions) + source.randbytes(source.randrange(1_400)) for _ in range(50)]
        decoder.decode([datagram(each) for each in payloads])
    assert decoder.drops.total() > 1_000


def spoofed(payload: bytes, number: int) -> Datagram:
    return datagram(payload, str(IPv4Address(0x0A000000 + number)))


def test_a_bomb_of_templates_of_one_exporter_is_remembered_within_limits() -> None:
    """Every number there is, of as many fields as fit, in each of many domains."""
    decoder = Decoder(Limits(domains=16, templates=32))
    honest = "192.0.2.99"
    assert decoder.decode([datagram(ipfix(ipfix_template(256, FLOW_FIELDS)), honest)]) == []
    fields = [Spec(8 + number % 100, 4) for number in range(300)]
    bombs = [
        ipfix(ipfix_template(256 + number, fields), domain=domain)
        for domain in range(40)
        for number in range(0, 65_000, 500)
    ]
    assert decoder.decode([datagram(each) for each in bombs]) == []
    # Fifteen, and two more whenever there is no room.
    assert decoder.drops[Dropped.TOO_MANY_EXPORTERS] in (25, 26)
    assert decoder.drops[Dropped.TOO_MANY_TEMPLATES] == (130 - 32) * 40
    # What was known before the bomb is still decoded, and so is who comes after it.
    (batch,) = decoder.decode([datagram(ipfix(a_set(256, RECORD)), honest)])
    assert len(batch.flows) == 1
    (batch,) = decoder.decode([datagram(ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD)), "192.0.2.100")])
    assert len(batch.flows) == 1


def test_one_exporter_that_is_forged_in_every_domain_shuts_no_other_out() -> None:
    decoder = Decoder()
    honest = [f"192.0.2.{number}" for number in range(100, 110)]
    template = ipfix(ipfix_template(256, FLOW_FIELDS))
    decoder.decode([datagram(template, each) for each in honest[:5]])
    decoder.decode([datagram(ipfix(domain=number)) for number in range(3 * 4_096)])
    assert decoder.drops[Dropped.TOO_MANY_EXPORTERS] >= 2 * 4_096
    decoder.decode([datagram(template, each) for each in honest[5:]])
    batches = decoder.decode([datagram(ipfix(a_set(256, RECORD)), each) for each in honest])
    assert len(batches) == len(honest)


def test_one_exporter_that_is_forged_with_very_many_fields_shuts_no_other_out() -> None:
    decoder = Decoder()
    honest = [f"192.0.2.{number}" for number in range(100, 110)]
    template = ipfix(ipfix_template(256, FLOW_FIELDS))
    decoder.decode([datagram(template, each) for each in honest[:5]])
    fields = [Spec(8, 1)] * 1_000
    bombs = [ipfix(ipfix_template(256 + number % 250, fields), domain=number // 250) for number in range(1_000)]
    decoder.decode([datagram(each) for each in bombs])
    assert decoder.drops
    decoder.decode([datagram(template, each) for each in honest[5:]])
    batches = decoder.decode([datagram(ipfix(a_set(256, RECORD)), each) for each in honest])
    assert len(batches) == len(honest)


def test_templates_of_all_exporters_have_so_many_fields_together() -> None:
    """However they come and go. Each counts as six fields more than it has."""
    decoder = Decoder(Limits(fields=1_060))
    template = ipfix(ipfix_template(256, [Spec(8, 4)] * 100))
    data = ipfix(a_set(256, bytes(400)))
    decoder.decode([spoofed(template, number) for number in range(10)])
    assert not decoder.drops
    # Changed, withdrawn, and sent anew as one that is unfit, it makes room.
    changed, withdrawn = ipfix_template(256, [Spec(8, 4)] * 50), a_set(2, struct.pack(">HH", 256, 0))
    unfit, all_of_them = ipfix_template(256, [Spec(8, 0)]), a_set(2, struct.pack(">HH", 2, 0))
    decoder.decode(
        [spoofed(ipfix(each), number) for number, each in enumerate((changed, withdrawn, unfit, all_of_them))]
    )
    decoder.drops.clear()
    decoder.decode([spoofed(template, number) for number in range(10, 13)])
    assert not decoder.drops
    # Where there is none, those that were silent longest give way: an eighth at once.
    decoder.decode([spoofed(template, 13)])
    assert 1 <= decoder.drops[Dropped.TOO_MANY_EXPORTERS] <= 3
    assert len(decoder.decode([spoofed(data, number) for number in range(10, 14)])) == 4
    assert decoder.decode([spoofed(data, 4)]) == []


def test_very_short_templates_count_with_what_they_take_beside_their_fields() -> None:
    decoder = Decoder(Limits(fields=700))
    for number in range(200):
        decoder.decode([datagram(ipfix(ipfix_template(256 + number, [Spec(8, 4)])))])
    known = [decoder.decode([datagram(ipfix(a_set(256 + number, bytes(4))))]) for number in range(200)]
    assert 80 <= sum(1 for each in known if each) <= 100


def test_samplers_count_as_fields_do() -> None:
    """Those of very many domains, a thousand of each."""
    decoder = Decoder(Limits(fields=10_000))
    options = ipfix_template(257, [Spec(302, 4), Spec(34, 4)], scopes=1)
    samplers = b"".join(struct.pack(">II", number, 10) for number in range(1_000))
    for number in range(40):
        decoder.decode([datagram(ipfix(options, a_set(257, samplers), domain=number))])
    assert decoder.drops[Dropped.TOO_MANY_EXPORTERS] >= 40 - 10
    data = ipfix_template(256, (*FLOW_FIELDS, Spec(302, 4)))
    sampled = ipfix(data, a_set(256, RECORD + struct.pack(">I", 999)), domain=39)
    (batch,) = decoder.decode([datagram(sampled)])
    assert list(batch.flows["sampling"]) == [10]


def test_a_bomb_of_sets_of_nothing_or_next_to_nothing_waits_within_limits() -> None:
    decoder = Decoder(Limits(waiting=1_000_000))
    nothing = ipfix(*[a_set(256 + number, b"") for number in range(300)])
    tracemalloc.start()
    try:
        decoder.decode([spoofed(nothing, number) for number in range(500)])
        assert not decoder.drops
        grown, _ = tracemalloc.get_traced_memory()
        assert grown < 1_000_000, "500 exporters, and nothing of theirs"
        for domain in range(20):
            octets = [a_set(256 + number, b"x") for number in range(300)]
            decoder.decode([spoofed(ipfix(*octets, domain=domain), number) for number in range(20)])
        grown = tracemalloc.get_traced_memory()[0] - grown
    finally:
        tracemalloc.stop()
    assert decoder.drops[Dropped.NO_TEMPLATE] > 100_000
    assert grown < 1_500_000


def test_one_exporter_that_is_forged_in_very_many_domains_leaves_others_room_to_wait() -> None:
    decoder = Decoder(Limits(waiting=1_000_000, waiting_of_one=10_000))
    for domain in range(200):
        decoder.decode([datagram(ipfix(a_set(256, bytes(1_200)), domain=domain))] * 10)
    assert decoder.drops[Dropped.NO_TEMPLATE] > 1_000
    honest = "192.0.2.99"
    decoder.decode([datagram(ipfix(a_set(256, RECORD)), honest)])
    (batch,) = decoder.decode([datagram(ipfix(ipfix_template(256, FLOW_FIELDS)), honest)])
    assert len(batch.flows) == 1


@pytest.mark.parametrize(
    "fields",
    [[Spec(8, 4), Spec(12, 4)], [Spec(8, 4), *[Spec(82, VARIABLE)] * 1_000], [Spec(8, 504), *[Spec(82, 0)] * 500]],
    ids=["short", "variable", "of no length"],
)
def test_of_a_flood_of_records_a_bounded_part_is_in_memory_at_once(fields: list[Spec]) -> None:
    decoder = Decoder(Limits(records=2_000))
    decoder.decode([datagram(ipfix(ipfix_template(256, fields)))])
    flood = [datagram(ipfix(a_set(256, bytes(9_000))))] * 60
    tracemalloc.start()
    try:
        count = sum(len(batch.flows) for batch in decoder.batches(flood))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 60 * (9_000 // sum(1 if each.length == VARIABLE else each.length for each in fields))
    assert most < 3_000_000


def test_a_bomb_of_records_of_an_octet_makes_nothing_of_them() -> None:
    decoder = Decoder()
    bomb = ipfix(ipfix_template(256, [Spec(4, 1)]), a_set(256, bytes(1_400)))
    assert decoder.decode([datagram(bomb)] * 400) == []
    assert decoder.drops == {Dropped.NO_ADDRESSES: 400}


def by_engine(number: int) -> bytes:
    made = bytearray(v5(v5_record("198.51.100.1", "203.0.113.9")))
    made[20:22] = number.to_bytes(2)
    return bytes(made)


def by_sub_agent(number: int) -> bytes:
    made = bytearray(sflow(sample(raw_header(ethernet(ipv4("198.51.100.1", "203.0.113.9", 6, tcp(1, 2, 2)))))))
    made[12:16] = number.to_bytes(4)
    return bytes(made)


def by_domain(number: int) -> bytes:
    return ipfix(ipfix_template(256, FLOW_FIELDS), a_set(256, RECORD), domain=number)


def by_template(number: int) -> bytes:
    changed = [*FLOW_FIELDS, *[Spec(82, 1)] * 240, Spec(82, 1 + number % 2)]
    return ipfix(ipfix_template(256, changed), a_set(256, RECORD + bytes(241 + number % 2)))


@pytest.mark.parametrize("make", [by_engine, by_sub_agent, by_domain, by_template])
def test_one_exporter_has_its_share_of_batches_and_others_have_theirs(make: Callable[[int], bytes]) -> None:
    """Each datagram a batch of its own: half a millisecond each, which are the others'."""
    flood = [datagram(make(number)) for number in range(2_000)]
    honest = [datagram(make(number), "192.0.2.99") for number in range(20)]
    decoder = Decoder()
    batches = decoder.decode([*flood, *honest])
    told = collections.Counter(str(batch.exporter) for batch in batches)
    assert told["192.0.2.99"] == 20
    assert told["192.0.2.1"] <= 1_024
    assert decoder.drops == {Dropped.TOO_MANY_BATCHES: 2_000 - told["192.0.2.1"]}
    assert len(decoder.decode(honest)) == len(decoder.decode(flood[:100])) / 5 == 20, "it is of one time alone"


def test_a_template_of_very_many_fields_or_of_very_long_records_is_not_taken() -> None:
    decoder = Decoder()
    widest, longest = [Spec(8, 1)] * 2_000, [Spec(8, 60_000), Spec(12, 6_000)]
    for number, fields in enumerate((widest, longest)):
        decoder.decode([datagram(ipfix(ipfix_template(256 + number, fields), a_set(256 + number, bytes(9_000))))])
    assert decoder.drops[Dropped.UNFIT_TEMPLATE] == 2


def test_a_template_that_changes_with_every_datagram_is_one() -> None:
    decoder = Decoder()
    for number in range(2_000):
        changed = [*FLOW_FIELDS, Spec(400 + number % 100, 1 + number % 7)]
        take(decoder, ipfix(ipfix_template(256, changed), a_set(256, RECORD + bytes(1 + number % 7))))
    assert not decoder.drops


def test_data_that_wait_for_templates_of_very_many_exporters_wait_within_limits() -> None:
    size = 1_000 + PIECE
    decoder = Decoder(Limits(domains=1_000, waiting=1_000 * size, waiting_of_one=10 * size))
    payload = ipfix(*[a_set(256 + number, bytes(1_000)) for number in range(12)])
    decoder.decode([spoofed(payload, number) for number in range(1_000)])
    # Ten of each of a hundred wait: the others' are given up.
    assert decoder.drops == {Dropped.NO_TEMPLATE: 12_000 - 1_000}


@pytest.mark.parametrize("payload", GOOD, ids=["v5", "v9", "v9-options", "ipfix", "variable", "sflow", "expanded"])
def test_an_export_that_is_cut_off_anywhere_is_counted_or_read_as_far_as_it_goes(payload: bytes) -> None:
    whole = Decoder()
    take(whole, payload)
    assert not whole.drops
    for length in range(len(payload)):
        decoder = Decoder()
        decoder.decode([datagram(payload[:length])])
        told = sum(len(each.flows) for each in decoder.decode([datagram(payload)]))
        # The next one is read as ever.
        assert told == sum(len(each.flows) for each in whole.decode([datagram(payload)]))


def test_records_by_the_length_of_a_lie_end_where_the_datagram_does() -> None:
    """Fields that say that they are longer than all there is; sets and samples in sets and samples."""
    variable = ipfix_template(258, [Spec(8, 4), Spec(82, VARIABLE)])
    for lie in (b"\xfe", b"\xff\xff\xff", b"\xff"):
        decoder = Decoder()
        (batch,) = decoder.decode([datagram(ipfix(variable, a_set(258, bytes(4) + b"\2ab" + bytes(4) + lie)))])
        assert len(batch.flows) == 1
    for count in (0xFFFFFFFF, 0x10000):
        decoder = Decoder()
        decoder.decode([datagram(sflow(sample(raw_header(b"")), count=count))])
        assert decoder.drops[Dropped.MALFORMED] == 1
