"""Templates and samplers that nobody tells any more, or that a device forgot when it was started anew."""

from __future__ import annotations

import struct

import pytest

from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.decoders.templates import LIFETIME
from tests.overflowd.exports import (
    FLOW_FIELDS,
    NOW,
    UPTIME,
    Spec,
    a_set,
    datagram,
    flow_record,
    ipfix,
    ipfix_template,
    v9,
    v9_options,
    v9_template,
)

RECORD = flow_record("198.51.100.1", "203.0.113.9")
LATER = LIFETIME // 1_000_000


def flows(decoder: Decoder, payload: bytes, at: int = NOW) -> int:
    return sum(len(each.flows) for each in decoder.decode([datagram(payload, at=at)]))


def samplings(decoder: Decoder, payload: bytes, at: int = NOW) -> list[int]:
    return [rate for each in decoder.decode([datagram(payload, at=at)]) for rate in each.flows["sampling"].tolist()]


@pytest.mark.parametrize(
    ("template", "data"),
    [
        (v9(v9_template(256, FLOW_FIELDS)), v9(a_set(256, RECORD))),
        (ipfix(ipfix_template(256, FLOW_FIELDS)), ipfix(a_set(256, RECORD))),
    ],
)
def test_a_template_that_was_told_too_long_ago_decodes_nothing_until_it_is_told_again(
    template: bytes, data: bytes
) -> None:
    decoder = Decoder()
    flows(decoder, template)
    assert flows(decoder, data, NOW + LATER) == 1
    assert flows(decoder, data, NOW + LATER + 1) == 0
    assert flows(decoder, template, NOW + LATER + 2) == 1, "it has waited for it"


def test_a_template_that_is_told_again_and_again_lives_on() -> None:
    decoder = Decoder()
    for hour in range(5):
        flows(decoder, v9(v9_template(256, FLOW_FIELDS)), NOW + hour * 3_600)
    assert flows(decoder, v9(a_set(256, RECORD)), NOW + 5 * 3_600) == 1


OTHER_FIELDS = (*FLOW_FIELDS[:2], Spec(2, 4), *FLOW_FIELDS[2:5], Spec(1, 8))


@pytest.mark.parametrize(
    ("before", "after", "decoded"),
    [
        # Five seconds up, after eleven days: the number may be another template's by now.
        (1_000_000_000, 5_000, 0),
        # The parts of one router that export for one domain have clocks of their own.
        (1_000_000_000, 1_000_000_000 - 113_000, 1),
        (200_000, 5_000, 1),
        # After 49.7 days it begins again by itself.
        (2**32 - 60_000, 5_000, 1),
        (1_000_000_000, 1_000_060_000, 1),
    ],
)
def test_a_device_that_was_started_anew_has_told_no_template_yet(before: int, after: int, decoded: int) -> None:
    decoder = Decoder()
    flows(decoder, v9(v9_template(256, FLOW_FIELDS), uptime=before))
    assert flows(decoder, v9(a_set(256, RECORD), uptime=after)) == decoded
    again = v9(v9_template(256, FLOW_FIELDS), a_set(256, RECORD), uptime=after)
    assert flows(decoder, again) == 2 - decoded, "what has waited, too"


def test_a_sampler_that_is_switched_off_is_forgotten() -> None:
    decoder = Decoder()
    options = v9(v9_options(300, (Spec(1, 4),), (Spec(34, 4),)), a_set(300, struct.pack(">II", 7, 1_000)))
    assert samplings(decoder, options) == []
    data = v9(v9_template(256, FLOW_FIELDS), a_set(256, RECORD))
    assert samplings(decoder, data, NOW + LATER) == [1_000]
    assert samplings(decoder, data, NOW + LATER + 1) == [0]


def test_a_sampler_of_before_the_restart_is_forgotten() -> None:
    decoder = Decoder()
    options = v9(v9_options(300, (Spec(1, 4),), (Spec(34, 4),)), a_set(300, struct.pack(">II", 7, 1_000)))
    data = (v9_template(256, FLOW_FIELDS), a_set(256, RECORD))
    samplings(decoder, options)
    assert samplings(decoder, v9(*data, uptime=UPTIME + 10**9)) == [1_000]
    assert samplings(decoder, v9(*data, uptime=5_000)) == [0]
