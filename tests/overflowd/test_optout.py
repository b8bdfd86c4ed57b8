"""Who asks not to be told any more: what it may ask for, and what is not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from joserfc import jws

from jfe_cni.overflowd.notices import keys, messages
from jfe_cni.overflowd.notices.optout import LARGEST_SIGNED, TYPE, OptOutAsked, Unasked, asked, sign
from jfe_cni.overflowd.notices.signing import ALGORITHM
from jfe_cni.overflowd.notices.signing import sign as sign_notice
from tests.overflowd.test_notices import NOTICE

KEY = keys.new_key()
SENT = sign_notice(NOTICE, keys.new_key()).encode()
DIGEST = messages.digest(SENT)


def test_what_is_asked_is_read_with_the_key_that_asks() -> None:
    signed = sign(DIGEST, KEY, until=2_000_000_000, prefix_length=24).encode()
    assert asked(signed, DIGEST) == OptOutAsked(KEY.thumbprint(), 2_000_000_000, 24)
    assert asked(sign(DIGEST, KEY).encode(), DIGEST) == OptOutAsked(KEY.thumbprint(), None, None)


def test_what_is_asked_for_longer_than_the_calendar_goes_is_for_good() -> None:
    end = 253_402_300_799
    assert datetime.fromtimestamp(end, UTC).year == 9999
    for until, found in ((end, end), (end + 1, None), (1 << 40, None), (10**30, None)):
        assert asked(sign(DIGEST, KEY, until=until).encode(), DIGEST) == OptOutAsked(KEY.thumbprint(), found, None)


def test_it_is_no_larger_than_the_notice_that_it_answers() -> None:
    answer = messages.OptOut(DIGEST, sign(DIGEST, KEY, until=2_000_000_000, prefix_length=128).encode())
    assert len(messages.encode(answer)) < len(SENT)
    assert messages.decode(messages.encode(answer)) == answer


@pytest.mark.parametrize(
    ("address", "length", "network"),
    [
        ("203.0.113.9", None, "203.0.113.9/32"),
        ("203.0.113.9", 24, "203.0.113.0/24"),
        ("203.0.113.9", 28, "203.0.113.0/28"),
        ("203.0.113.9", 0, "203.0.113.0/24"),
        ("203.0.113.9", 128, "203.0.113.9/32"),
        ("2001:db8:1:2::9", None, "2001:db8:1:2::9/128"),
        ("2001:db8:1:2::9", 16, "2001:db8:1::/48"),
        ("2001:db8:1:2::9", 64, "2001:db8:1:2::/64"),
    ],
)
def test_one_address_speaks_for_no_more_than_its_own_small_network(
    address: str, length: int | None, network: str
) -> None:
    assert OptOutAsked("", None, length).network(ip_address(address)) == ip_network(network)


def by(payload: bytes, **changed: object) -> bytes:
    public = {name: KEY.as_dict(private=False)[name] for name in ("kty", "crv", "x")}
    header = {"alg": ALGORITHM, "typ": TYPE, "jwk": public} | changed
    return jws.serialize_compact(header, payload, KEY, algorithms=[ALGORITHM]).encode()


RIGHT = f'{{"digest":"{DIGEST}"}}'.encode()


@pytest.mark.parametrize(
    ("signed", "why"),
    [
        (b"", Unasked.NO_JWS),
        (b"A" * (LARGEST_SIGNED + 1), Unasked.TOO_LARGE),
        (b"eyJhbGciOiJub25lIn0.e30.", Unasked.WRONG_ALGORITHM),
        (by(RIGHT, typ="overflowd+jws"), Unasked.WRONG_TYPE),
        (by(RIGHT, jwk=keys.new_key().as_dict(private=False)), Unasked.WRONG_SIGNATURE),
        (by(RIGHT, jwk={"kty": "OKP", "crv": "Ed25519", "x": "AA"}), Unasked.WRONG_SIGNATURE),
        (by(b"[]"), Unasked.MISSHAPEN),
        (by(b"{}"), Unasked.MISSHAPEN),
        (by(b"{"), Unasked.MISSHAPEN),
        (by(RIGHT.replace(b"}", b',"until":1,"until":2}')), Unasked.MISSHAPEN),
        (by(RIGHT.replace(b"}", b',"until":NaN}')), Unasked.MISSHAPEN),
        (by(RIGHT.replace(b"}", b',"until":true}')), Unasked.MISSHAPEN),
        (by(RIGHT.replace(b"}", b',"until":1e300}')), Unasked.MISSHAPEN),
        (by(RIGHT.replace(b"}", b',"prefix length":-1}')), Unasked.MISSHAPEN),
        (sign(messages.digest(b"another"), KEY).encode(), Unasked.OTHER_NOTICE),
    ],
)
def test_what_asks_for_nothing_has_a_reason(signed: bytes, why: Unasked) -> None:
    assert asked(signed, DIGEST) is why
