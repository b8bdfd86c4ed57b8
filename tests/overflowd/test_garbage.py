"""What anybody may send: nothing that comes stops a decoder."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from jfe_cni.overflowd.decoders import Decoder, Limits
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
