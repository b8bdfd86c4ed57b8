"""What becomes of what came, decided without a socket."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from jfe_cni.overflowd.notices import messages, optout, sealing
from jfe_cni.overflowd.notices.keys import PUBLISHED, new_key
from jfe_cni.overflowd.notices.messages import Sent, decode
from jfe_cni.overflowd.notices.notice import Class, End, Notice, Reporter, TracedFlow, Unfit, encode
from jfe_cni.overflowd.notices.sealing import NotOpened
from jfe_cni.overflowd.notices.signing import ALGORITHM, TYPE, Refused, sign
from jfe_cni.overflowd.receiver.challenges import SLOT, Challenges
from jfe_cni.overflowd.receiver.freshness import Freshness, Remembered, Stale
from jfe_cni.overflowd.receiver.intake import (
    Challenged,
    Intake,
    KeyNeeded,
    NotTaken,
    Origin,
    Scope,
    Taken,
    Untaken,
)
from jfe_cni.overflowd.receiver.pins import Keys, Publisher
from tests.overflowd.test_notices import NOTICE

NOW = NOTICE.made
HOUR = 3_600_000_000
KEY, STRANGER, OPENING = new_key(), new_key(), sealing.new_key()
HERE = Origin(ip_address("198.51.100.77"), 4_000)
CARRIER = Publisher("carrier.example")


def intake(scope: Scope | None = None, pinned: dict[str, Keys] | None = None) -> Intake:
    believed = {"carrier.example": {KEY.thumbprint(): KEY}} if pinned is None else pinned
    remembered = Remembered(bytes(32))
    freshness = {(domain, name): Freshness(domain, remembered) for domain, keys in believed.items() for name in keys}
    opening = {OPENING.thumbprint(): OPENING}
    return Intake(believed, freshness, Challenges(bytes(32)), scope or Scope(), opening)


def signed(notice: Notice = NOTICE, key: OKPKey = KEY) -> Sent:
    return Sent(sign(notice, key).encode())


def test_what_a_known_key_has_signed_is_taken_once() -> None:
    asked = intake()
    assert asked.decide(signed(), HERE, NOW, NOW) == Taken(NOTICE, signed().signed, CARRIER, KEY.thumbprint())
    assert asked.decide(signed(), HERE, NOW, NOW) == NotTaken(Stale.REPLAYED)


@pytest.mark.parametrize(
    ("made", "reason"),
    [(NOW - HOUR, None), (NOW + HOUR, None), (NOW + 3 * HOUR, Stale.FROM_THE_FUTURE), (NOW - 25 * HOUR, Stale.TOO_OLD)],
)
def test_a_clock_an_hour_off_is_heard_and_one_a_day_off_is_not(made: int, reason: Stale | None) -> None:
    decision = intake().decide(signed(replace(NOTICE, made=made)), HERE, NOW, NOW)
    assert isinstance(decision, Taken) if reason is None else decision == NotTaken(reason)


def test_no_algorithm_and_no_other_algorithm_is_believed() -> None:
    header = {"alg": "none", "kid": KEY.thumbprint(), "typ": TYPE}
    parts = (json.dumps(header).encode(), encode(NOTICE), b"")
    bare = b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in parts)
    assert intake().decide(Sent(bare), HERE, NOW, NOW) == NotTaken(Refused.WRONG_ALGORITHM)
    public = OctKey.import_key({"kty": "oct", "k": KEY.as_dict(private=False)["x"]})
    by_public_key = jws.serialize_compact({**header, "alg": "HS256"}, encode(NOTICE), public, algorithms=["HS256"])
    assert intake().decide(Sent(by_public_key.encode()), HERE, NOW, NOW) == NotTaken(Refused.WRONG_ALGORITHM)


def test_what_another_key_has_signed_in_its_name_is_not_believed() -> None:
    header = {"alg": ALGORITHM, "kid": KEY.thumbprint(), "typ": TYPE}
    forged = jws.serialize_compact(header, encode(NOTICE), STRANGER, algorithms=[ALGORITHM])
    assert intake().decide(Sent(forged.encode()), HERE, NOW, NOW) == NotTaken(Refused.WRONG_SIGNATURE)


def test_a_key_speaks_for_its_own_domain_alone() -> None:
    """Another reporter's, that is believed as well, says that it is the carrier."""
    both: dict[str, Keys] = {
        "carrier.example": {KEY.thumbprint(): KEY},
        "evil.example": {STRANGER.thumbprint(): STRANGER},
    }
    asked = intake(pinned=both)
    assert isinstance(asked.decide(signed(key=STRANGER), HERE, NOW, NOW), Challenged)
    own = replace(NOTICE, reporter=replace(NOTICE.reporter, keys=NOTICE.reporter.keys.replace("carrier", "evil")))
    assert isinstance(asked.decide(signed(own, STRANGER), HERE, NOW, NOW), Taken)


def test_a_key_is_asked_for_only_where_the_sender_has_shown_that_it_is_there() -> None:
    asked = intake(pinned={})
    challenged = asked.decide(signed(), HERE, NOW, NOW)
    assert isinstance(challenged, Challenged)
    needed = KeyNeeded(CARRIER, KEY.thumbprint())
    echo = Sent(signed().signed, challenged.cookie)
    assert asked.decide(echo, HERE, NOW, NOW) == needed
    assert asked.decide(signed(), replace(HERE, proven=True), NOW, NOW) == needed
    for elsewhere in (replace(HERE, port=4_001), replace(HERE, address=ip_address("198.51.100.78"))):
        assert isinstance(asked.decide(echo, elsewhere, NOW, NOW), Challenged)
    assert isinstance(asked.decide(echo, HERE, NOW + 2 * SLOT, NOW + 2 * SLOT), Challenged)
    of_another = Sent(signed(key=STRANGER).signed, challenged.cookie)
    assert isinstance(asked.decide(of_another, HERE, NOW, NOW), Challenged)


def test_what_is_sealed_to_us_is_opened() -> None:
    sealed = Sent(sealing.seal(signed().signed, OPENING))
    assert isinstance(intake().decide(sealed, HERE, NOW, NOW), Taken)
    for_another = Sent(sealing.seal(signed().signed, sealing.new_key()))
    assert intake().decide(for_another, HERE, NOW, NOW) == NotTaken(NotOpened.UNKNOWN_KEY)


def test_where_own_networks_are_named_nothing_is_taken_that_is_about_others() -> None:
    scope = Scope(own=(ip_network("203.0.113.0/24"),))
    assert NOTICE.flow.destination in scope.own[0]
    assert isinstance(intake(scope).decide(signed(), HERE, NOW, NOW), Taken)
    to_source = signed(replace(NOTICE, to=End.SOURCE))
    assert intake(scope).decide(to_source, HERE, NOW, NOW) == NotTaken(Untaken.ABOUT_OTHERS)


def test_a_reporter_without_a_domain_is_nobody() -> None:
    nobody = replace(NOTICE, reporter=replace(NOTICE.reporter, keys="https://192.0.2.1/keys.json"))
    assert intake().decide(signed(nobody), replace(HERE, proven=True), NOW, NOW) == NotTaken(Untaken.NO_DOMAIN)


def test_what_is_rightly_signed_and_no_notice_is_not_taken() -> None:
    header = {"alg": ALGORITHM, "kid": KEY.thumbprint(), "typ": TYPE}
    for payload, reason in ((b"?", Unfit.NO_JSON), (b"{}", Unfit.MISSHAPEN), (b'{"version":2}', Unfit.UNKNOWN_VERSION)):
        raw = jws.serialize_compact(header, payload, KEY, algorithms=[ALGORITHM]).encode()
        assert intake().decide(Sent(raw), HERE, NOW, NOW) == NotTaken(reason)


def test_the_smallest_notice_that_there_is_is_larger_than_what_answers_it() -> None:
    reporter = Reporter("", "", 0, f"https://a.b{PUBLISHED}")
    flow = TracedFlow(ip_address("::"), ip_address("::"), 0, 0, 0, 0, 0, 0, 0, 0, 0)
    smallest = Notice(End.SOURCE, flow, 1.0, Class.TRAFFIC, (), reporter, NOW, "n" * 16)
    decision = intake(pinned={"a.b": {KEY.thumbprint(): KEY}}).decide(signed(smallest), HERE, NOW, NOW)
    assert isinstance(decision, Taken)
    cookie = Challenges(bytes(32)).cookie(ip_address("::"), 65_535, KEY.thumbprint(), NOW)
    digest = messages.digest(b"")
    wish = messages.OptOut(digest, optout.sign(digest, KEY).encode())
    for answer in (messages.Challenge(cookie), messages.Taken(digest), wish):
        assert len(messages.encode(answer)) < len(signed(smallest).signed)


@given(st.binary(max_size=400), st.integers(0, 700), st.binary(max_size=6))
def test_of_garbage_nothing_is_taken(garbage: bytes, place: int, put_in: bytes) -> None:
    """Bytes of any kind, and a notice with some of it changed."""
    whole = signed().signed
    for raw in (garbage, b"overflowd1 echo " + garbage, whole[:place] + put_in + whole[place + len(put_in) + 1 :]):
        sent = decode(raw)
        if isinstance(sent, Sent):
            assert not isinstance(intake().decide(sent, HERE, NOW, NOW), Taken)
