"""Notices: what they say, to whom, and what of others is believed."""

from __future__ import annotations

import base64
import dataclasses
import json
import stat
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from jfe_cni.errors import IdentityError
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import (
    LARGEST,
    Class,
    Direction,
    End,
    Notice,
    Reporter,
    TracedFlow,
    Unfit,
    copies,
    decode,
    encode,
    new_nonce,
)
from jfe_cni.overflowd.notices.signing import ALGORITHM, LARGEST_SIGNED, TYPE, Refused, key_named, sign, verified
from jfe_cni.overflowd.receiver.pins import read_published
from tests.overflowd.exports import NOW

SCHEMA = Path(__file__).parents[2] / "docs/overflowd-notice.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(SCHEMA.read_text()), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
FLOW = TracedFlow(
    ip_address("198.51.100.1"), ip_address("203.0.113.9"), 53, 4_321, 17, 0, 3, 4_500, NOW * 1_000_000 + 5, 0, 1_000
)
REPORTER = Reporter(
    "noc@carrier.example", "A Carrier", 64_500, "https://carrier.example/.well-known/overflowd/keys.json"
)
NOTICE = Notice(
    End.DESTINATION, FLOW, 1e-6, Class.FAN_IN, ("41 sources in 60 s",), REPORTER, NOW * 1_000_000, "0123456789abcdef"
)

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=256)
times = st.integers(1, 2**51)
addresses = st.one_of(*(st.tuples(each, each) for each in (st.ip_addresses(v=4), st.ip_addresses(v=6))))


@st.composite
def notices(draw: st.DrawFn) -> Notice:
    source, destination = draw(addresses)
    flow = TracedFlow(
        source,
        destination,
        source_port=draw(st.integers(0, 65_535)),
        destination_port=draw(st.integers(0, 65_535)),
        protocol=draw(st.integers(0, 255)),
        tcp_flags=draw(st.integers(0, 65_535)),
        packets=draw(st.integers(0, 2**64 - 1)),
        octets=draw(st.integers(0, 2**64 - 1)),
        first=draw(st.one_of(st.just(0), times)),
        last=draw(times),
        sampling=draw(st.integers(0, 2**32 - 1)),
        direction=draw(st.sampled_from([None, *Direction])),
    )
    reporter = Reporter(draw(texts), draw(texts), draw(st.integers(0, 2**32 - 1)), draw(texts))
    evidence = tuple(draw(st.lists(texts, max_size=3)))
    odds, classified = draw(st.floats(1e-12, 1)), draw(st.sampled_from(Class))
    return Notice(draw(st.sampled_from(End)), flow, odds, classified, evidence, reporter, draw(times), new_nonce())


@given(notices())
def test_a_notice_is_read_as_it_was_written_and_is_of_the_schema(notice: Notice) -> None:
    written = encode(notice)
    assert decode(written) == notice or len(written) > LARGEST
    VALIDATOR.validate(json.loads(written))


def changed(*path: str, value: object) -> bytes:
    document: dict[str, Any] = json.loads(encode(NOTICE))
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(document).encode()


def _between(source: str, destination: str) -> bytes:
    document = json.loads(encode(NOTICE))
    document["flow"] |= {"source": source, "destination": destination}
    return json.dumps(document).encode()


TWICE = encode(NOTICE)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", Unfit.NO_JSON),
        (b"[" * 5_000, Unfit.NO_JSON),
        (b"\xff", Unfit.NO_JSON),
        (b"[]", Unfit.MISSHAPEN),
        (b"{}", Unfit.MISSHAPEN),
        (b" " * (LARGEST + 1), Unfit.TOO_LARGE),
        (changed("version", value=2), Unfit.UNKNOWN_VERSION),
        (changed("to", value="everybody"), Unfit.MISSHAPEN),
        (changed("version", value=True), Unfit.MISSHAPEN),
        (changed("version", value=1.0), Unfit.MISSHAPEN),
        (changed("version", value="1"), Unfit.MISSHAPEN),
        (changed("odds", value=0), Unfit.MISSHAPEN),
        (changed("odds", value="0.5"), Unfit.MISSHAPEN),
        (changed("odds", value=True), Unfit.MISSHAPEN),
        (changed("reporter", "as", value=""), Unfit.MISSHAPEN),
        (changed("reporter", "as", value=[]), Unfit.MISSHAPEN),
        (changed("reporter", "as", value=False), Unfit.MISSHAPEN),
        (changed("flow", "sampling", value={}), Unfit.MISSHAPEN),
        (changed("colour", value=float("inf")), Unfit.MISSHAPEN),
        (TWICE.replace(b'"to"', b'"version": 1, "to"'), Unfit.MISSHAPEN),
        (TWICE.replace(b'"source_port"', b'"source_port": 1, "source_port"'), Unfit.MISSHAPEN),
        (TWICE.replace(b'"to"', b'"colour": {"red": 1, "red": 2}, "to"'), Unfit.MISSHAPEN),
        (changed("nonce", value="x" * 65), Unfit.MISSHAPEN),
        (changed("nonce", value="0123456789abcdef\n"), Unfit.MISSHAPEN),
        (changed("nonce", value="../../../../0123"), Unfit.MISSHAPEN),
        (changed("made", value="2026-W01-1T00:00:00Z"), Unfit.MISSHAPEN),
        (changed("made", value="20260101T000000Z"), Unfit.MISSHAPEN),
        (changed("made", value="2026-01-01 00:00:00+00:00"), Unfit.MISSHAPEN),
        (changed("odds", value=float("nan")), Unfit.MISSHAPEN),
        (changed("nonce", value="short"), Unfit.MISSHAPEN),
        (changed("made", value="2026-01-01T00:00:00"), Unfit.MISSHAPEN),
        (changed("made", value="1969-12-31T23:59:59.999999Z"), Unfit.MISSHAPEN),
        (changed("flow", "first", value="9999-12-31T23:59:59.999999Z"), Unfit.MISSHAPEN),
        (changed("flow", "last", value="0001-01-01T00:00:00+23:59"), Unfit.MISSHAPEN),
        (changed("evidence", value=["x"] * 17), Unfit.MISSHAPEN),
        (changed("evidence", value=["\x1b[2J"]), Unfit.MISSHAPEN),
        (changed("flow", "source", value="2001:db8::1"), Unfit.MISSHAPEN),
        (_between("fe80::1%any text", "2001:db8::1"), Unfit.MISSHAPEN),
        (_between("2001:db8::1", "fe80::1%eth0"), Unfit.MISSHAPEN),
        (changed("flow", "source", value=3), Unfit.MISSHAPEN),
        (changed("flow", "packets", value=-1), Unfit.MISSHAPEN),
        (changed("flow", "packets", value=True), Unfit.MISSHAPEN),
        (changed("flow", "packets", value=2**64), Unfit.MISSHAPEN),
        (changed("reporter", value=None), Unfit.MISSHAPEN),
        (changed("reporter", "contact", value="x" * 257), Unfit.MISSHAPEN),
    ],
)
def test_what_is_no_notice_has_a_reason(raw: bytes, why: Unfit) -> None:
    assert decode(raw) is why


# JSON of any kind, and what a member may be taken for.
zones = st.timezones() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
said = (
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    )
    | st.datetimes(timezones=zones).map(datetime.isoformat)
    | st.sampled_from(["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "\ud800", 2**53, 1e308])
    | st.ip_addresses().map(str)
)
MEMBERS = [
    *((name,) for name in ("made", "nonce", "to", "odds", "class", "evidence", "flow", "reporter")),
    *(("flow", name) for name in json.loads(encode(NOTICE))["flow"]),
    *(("reporter", name) for name in json.loads(encode(NOTICE))["reporter"]),
]


@given(st.sampled_from(MEMBERS), said)
def test_whatever_is_read_can_be_written_and_is_then_read_as_the_same(path: tuple[str, ...], value: object) -> None:
    found = decode(changed(*path, value=value))
    if isinstance(found, Notice):
        assert decode(encode(found)) == found


@given(st.sampled_from([*MEMBERS, ("version",)]), said | st.sampled_from([0, 1, 1.0, True, "1", "", [], {}, None]))
def test_what_the_schema_refuses_is_not_read(path: tuple[str, ...], value: object) -> None:
    raw = changed(*path, value=value)
    assert VALIDATOR.is_valid(json.loads(raw)) or not isinstance(decode(raw), Notice)


@given(st.sampled_from(MEMBERS), st.data())
def test_what_the_schema_asks_for_must_be_there(path: tuple[str, ...], data: st.DataObject) -> None:
    document = json.loads(encode(data.draw(notices())))
    del (document if len(path) == 1 else document[path[0]])[path[-1]]
    raw = json.dumps(document).encode()
    assert VALIDATOR.is_valid(document) == isinstance(decode(raw), Notice)


@given(st.sampled_from(["first", "last"]), st.datetimes(timezones=zones))
def test_whatever_time_is_read_can_be_written(name: str, at: datetime) -> None:
    found = decode(changed("flow", name, value=at.isoformat()))
    assert found is Unfit.MISSHAPEN or (isinstance(found, Notice) and decode(encode(found)) == found)


def test_what_an_exporters_clock_never_was_is_not_known() -> None:
    for at in (-1, 2**53, 2**80):
        flow = dataclasses.replace(FLOW, first=at, last=at)
        assert decode(encode(dataclasses.replace(NOTICE, flow=flow))) == dataclasses.replace(
            NOTICE, flow=dataclasses.replace(FLOW, first=0, last=0)
        )


def test_what_a_later_release_says_besides_is_left_out() -> None:
    assert decode(changed("flow", "colour", value="red")) == NOTICE


def test_both_ends_are_told_the_same_of_the_flow() -> None:
    (first, to_source), (second, to_destination) = copies(NOTICE)
    assert (first, second) == (FLOW.source, FLOW.destination)
    assert (to_source.to, to_destination.to) == (End.SOURCE, End.DESTINATION)
    assert dataclasses.replace(to_source, to=End.DESTINATION) == to_destination
    # Nothing of third parties: who is not one of the two ends is the reporter, as it wants to be known.
    assert set(json.loads(encode(NOTICE))) == set(json.loads(SCHEMA.read_text())["required"])


def test_a_signature_is_believed_by_the_key_it_was_made_with_alone() -> None:
    key, other = keys.new_key(), keys.new_key()
    signed = sign(NOTICE, key).encode()
    assert verified(signed, {key.thumbprint(): _public(key)}) == NOTICE
    assert verified(signed, {}) is Refused.UNKNOWN_KEY
    assert verified(signed, {key.thumbprint(): _public(other)}) is Refused.WRONG_SIGNATURE


def _public(key: OKPKey) -> OKPKey:
    return OKPKey.import_key(key.as_dict(private=False))


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_no_other_algorithm_is_taken_and_none_least_of_all() -> None:
    key = keys.new_key()
    known = {key.thumbprint(): _public(key)}
    payload, header = encode(NOTICE), {"kid": key.thumbprint(), "typ": TYPE}
    unsigned = f"{_part(header | {'alg': 'none'})}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}."
    # The public key as a shared secret: what a verifier that lets the header choose would take.
    shared = OctKey.import_key(str(_public(key).as_dict(private=False)["x"]))
    by_mac = jws.serialize_compact(header | {"alg": "HS256"}, payload, shared, algorithms=["HS256"])
    for forged in (unsigned, by_mac):
        assert verified(forged.encode(), known) is Refused.WRONG_ALGORITHM
    untyped = jws.serialize_compact({"alg": ALGORITHM, "kid": key.thumbprint()}, payload, key, algorithms=[ALGORITHM])
    assert verified(untyped.encode(), known) is Refused.WRONG_TYPE, "signed for something else"


@pytest.mark.parametrize(
    "garbage", [b"", b"..", b"a.b", b"\xff.\xff.\xff", b"e30.e30.e30", b"W10.e30.e30", b"x" * 9_000]
)
def test_garbage_is_no_jws(garbage: bytes) -> None:
    assert verified(garbage, {}) in {Refused.NO_JWS, Refused.WRONG_ALGORITHM}


def test_ten_megabytes_are_refused_unread() -> None:
    assert verified(b"e30." + b"A" * 10_000_000 + b".AA", {}) is Refused.TOO_LARGE


@given(st.integers(0), st.integers(0, 255))
def test_a_signed_notice_with_any_byte_changed_is_refused(at: int, value: int) -> None:
    signed = bytearray(SIGNED)
    place = at % len(signed)
    if signed[place] == value:
        return
    signed[place] = value
    found = verified(bytes(signed), {KEY.thumbprint(): _public(KEY)})
    # The last character of a part has bits that say nothing.
    assert isinstance(found, Refused) or found == NOTICE


# RFC 7515, section 4.1, RFC 7516 and RFC 7797; and one that nobody knows.
REGISTERED = ["alg", "jku", "jwk", "kid", "x5u", "x5c", "x5t", "x5t#S256", "typ", "cty", "crit", "b64", "enc", "zip"]


@given(st.sampled_from([*REGISTERED, "other"]), said)
def test_whatever_a_header_says_is_answered_with_a_reason(name: str, value: object) -> None:
    """By a key that is known, with the signature of another notice."""
    header = {"alg": ALGORITHM, "kid": KEY.thumbprint(), "typ": TYPE, name: value}
    raw = f"{_part(header)}.{SIGNED.decode().partition('.')[2]}".encode()
    assert isinstance(verified(raw, {KEY.thumbprint(): _public(KEY)}), Refused | Notice)
    named = key_named(raw)
    assert isinstance(named, Refused) or (len(named) == 43 and named.isascii())


@pytest.mark.parametrize("critical", [None, 5, [1], True, [], ["b64"], ["x"]])
def test_what_must_be_understood_and_is_not_is_no_jws(critical: object) -> None:
    """RFC 7515, section 4.1.11."""
    raw = f"{_part({'alg': ALGORITHM, 'kid': KEY.thumbprint(), 'typ': TYPE, 'crit': critical})}.e30.{'A' * 86}"
    assert verified(raw.encode(), {KEY.thumbprint(): _public(KEY)}) is Refused.NO_JWS


@pytest.mark.parametrize("name", ["\ud800", "", "A" * 42, "A" * 44, "é" * 43, "A" * 42 + "=", None, 43, ["A" * 43]])
def test_a_key_is_named_by_its_thumbprint_and_by_nothing_else(name: object) -> None:
    raw = f"{_part({'alg': ALGORITHM, 'kid': name, 'typ': TYPE})}.e30.{'A' * 86}"
    assert key_named(raw.encode()) is Refused.UNKNOWN_KEY


KEY = OKPKey.generate_key("Ed25519", private=True)
SIGNED = sign(NOTICE, KEY).encode()


def test_the_largest_notice_fits_when_it_is_signed() -> None:
    assert len(base64.urlsafe_b64encode(bytes(LARGEST + 512))) <= LARGEST_SIGNED


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state/keys.json"
    made = keys.read_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_or_make(path).signing.thumbprint() == made.signing.thumbprint()
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_a_rotated_key_is_published_for_a_while_and_without_its_private_half(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    former = keys.read_or_make(path).signing
    ring = keys.rotate(path, NOW)
    again = keys.read_or_make(path)
    assert again.signing.thumbprint() == ring.signing.thumbprint() != former.thumbprint()
    published = again.published(NOW + keys.OVERLAP - 1)["keys"]
    assert [each["kid"] for each in published] == [ring.signing.thumbprint(), former.thumbprint()]
    assert all("d" not in each and each["alg"] == ALGORITHM for each in published)
    assert len(again.published(NOW + keys.OVERLAP)["keys"]) == 1
    assert (
        verified(sign(NOTICE, former).encode(), {each["kid"]: OKPKey.import_key(each) for each in published}) == NOTICE
    )


def test_however_often_a_key_is_rotated_no_more_are_published_than_receivers_take() -> None:
    ring = first = keys.KeyRing(keys.new_key())
    for number in range(keys.MOST_PUBLISHED + 3):
        former, ring = ring.signing, ring.rotated(NOW + number)
        published = ring.published(NOW + number)
        assert len(published["keys"]) == min(number + 2, keys.MOST_PUBLISHED)
        believed = read_published(json.dumps(published).encode())
        assert {ring.signing.thumbprint(), former.thumbprint()} <= set(believed)
    assert first.signing.thumbprint() not in believed
    many = keys.KeyRing(first.signing, ring.former * 2)
    assert len(many.published(NOW)["keys"]) == keys.MOST_PUBLISHED, "of a file that an earlier release has written"


ROTATED = json.dumps({"key": keys.new_key().as_dict(private=True), "until": float("inf")})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[" * 60_000,
        '{"signing": 3, "former": []}',
        '{"signing": {"kty": "OKP"}, "former": []}',
        f'{{"signing": {{}}, "former": [{ROTATED}]}}',
    ],
)
def test_a_file_that_holds_no_keys_is_left_alone_and_said_to_be(content: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="holds no keys"):
        keys.read_or_make(path)
    assert path.read_text() == content


def test_a_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.read_or_make(path)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="open to others"):
        keys.read_or_make(path)
