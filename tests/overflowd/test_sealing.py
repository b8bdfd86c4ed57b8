"""Sealed to a receiver: opened by its key alone, by no other algorithm, and never larger than it may be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.sealing import (
    LARGEST_SEALED,
    TYPE,
    NotOpened,
    encryption_key,
    is_sealed,
    new_key,
    published,
    seal,
    unseal,
)
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED, sign, verified
from tests.overflowd.test_notices import NOTICE

RECEIVER = new_key()
OWN = {RECEIVER.thumbprint(): RECEIVER}
SIGNED = b"e30.e30.AA"


def public(key: OKPKey) -> OKPKey:
    found = encryption_key({"keys": [published(key)]})
    assert found is not None
    return found


def test_what_is_sealed_to_a_published_key_is_opened_by_its_holder_and_verified() -> None:
    reporter = keys.new_key()
    signed = sign(NOTICE, reporter).encode()
    sealed = seal(signed, public(RECEIVER))
    assert is_sealed(sealed)
    assert not is_sealed(signed)
    opened = unseal(sealed, OWN)
    assert opened == signed
    assert isinstance(opened, bytes)
    assert verified(opened, {reporter.thumbprint(): reporter}) == NOTICE
    for part in sealed.split(b"."):
        assert b"198.51.100.1" not in base64.urlsafe_b64decode(part + b"==")


def test_the_largest_notice_can_be_sealed() -> None:
    assert len(seal(bytes(LARGEST_SIGNED), public(RECEIVER))) <= LARGEST_SEALED
    assert unseal(seal(bytes(LARGEST_SIGNED), public(RECEIVER)), OWN) == bytes(LARGEST_SIGNED)
    assert unseal(seal(bytes(LARGEST_SIGNED + 1), public(RECEIVER)), OWN) is NotOpened.TOO_LARGE


def test_another_holds_no_key_to_it() -> None:
    other = new_key()
    sealed = seal(SIGNED, public(RECEIVER))
    assert unseal(sealed, {other.thumbprint(): other}) is NotOpened.UNKNOWN_KEY
    assert unseal(sealed, {RECEIVER.thumbprint(): other}) is NotOpened.WRONG_KEY


def header(**changed: object) -> dict[str, Any]:
    said = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": RECEIVER.thumbprint(), "typ": TYPE} | changed
    return {name: value for name, value in said.items() if value is not None}


def encrypted(key: Any, said: dict[str, Any]) -> bytes:
    return jwe.encrypt_compact(said, SIGNED, key, algorithms=[said["alg"], said["enc"], "DEF"]).encode()


@pytest.mark.parametrize(
    ("sealed", "why"),
    [
        (encrypted(RSAKey.generate_key(2048), header(alg="RSA-OAEP")), NotOpened.WRONG_ALGORITHM),
        (encrypted(OctKey.generate_key(256), header(alg="dir")), NotOpened.WRONG_ALGORITHM),
        (encrypted(RECEIVER, header(alg="ECDH-ES+A256KW")), NotOpened.WRONG_ALGORITHM),
        (encrypted(RECEIVER, header(enc="A128CBC-HS256")), NotOpened.WRONG_ALGORITHM),
        (encrypted(RECEIVER, header(zip="DEF")), NotOpened.COMPRESSED),
        (encrypted(RECEIVER, header(typ=None)), NotOpened.WRONG_TYPE),
        (encrypted(RECEIVER, header(kid=None)), NotOpened.UNKNOWN_KEY),
        # An ephemeral key of another curve than the receiver's.
        (encrypted(ECKey.generate_key("P-256"), header()), NotOpened.WRONG_KEY),
        (base64.urlsafe_b64encode(json.dumps(header(kid=3)).encode()).rstrip(b"=") + b"....", NotOpened.UNKNOWN_KEY),
        (b"", NotOpened.NO_JWE),
        (SIGNED, NotOpened.NO_JWE),
        (b"....", NotOpened.NO_JWE),
        (b"W10....", NotOpened.NO_JWE),
        (b"\xff....", NotOpened.NO_JWE),
        (b"A" * 2_000 + b"....", NotOpened.NO_JWE),
        (b"A" * (LARGEST_SEALED + 1), NotOpened.TOO_LARGE),
        (b"." * 10_000_000, NotOpened.TOO_LARGE),
    ],
)
def test_what_is_not_opened_has_a_reason(sealed: bytes, why: NotOpened) -> None:
    assert unseal(sealed, OWN) is why


@pytest.mark.parametrize(
    "ephemeral",
    [
        None,
        3,
        {},
        {"kty": "oct", "k": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": keys.new_key().as_dict()["x"]},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
        # Of small order: what is agreed upon with it is known to everybody.
        {"kty": "OKP", "crv": "X25519", "x": base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()},
    ],
)
def test_an_ephemeral_key_that_is_none_opens_nothing(ephemeral: object) -> None:
    said = json.dumps(header(epk=ephemeral)).encode()
    parts = seal(SIGNED, public(RECEIVER)).split(b".")
    parts[0] = base64.urlsafe_b64encode(said).rstrip(b"=")
    assert unseal(b".".join(parts), OWN) is NotOpened.WRONG_KEY


SEALED = seal(SIGNED, RECEIVER)


@given(st.integers(0), st.integers(0, 255))
def test_something_sealed_with_any_byte_changed_is_refused(at: int, value: int) -> None:
    changed = bytearray(SEALED)
    changed[at % len(changed)] = value
    found = unseal(bytes(changed), OWN)
    # The last character of a part has bits that say nothing, but for the header, whose very characters are signed over.
    assert isinstance(found, NotOpened) or (found == SIGNED and bytes(changed).split(b".")[0] == SEALED.split(b".")[0])


@pytest.mark.parametrize(
    "jwk_set",
    [
        None,
        [],
        {},
        {"keys": None},
        {"keys": [3, {}]},
        {"keys": [{**published(RECEIVER), "use": "sig"}]},
        {"keys": [{**published(RECEIVER), "alg": "RSA-OAEP"}]},
        {"keys": [{**published(RECEIVER), "x": "AA"}]},
        {"keys": [{**published(RECEIVER), "x": 3}]},
        {"keys": [{**published(RECEIVER), "x": "é"}]},
        {"keys": [{**published(RECEIVER), "x": base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()}]},
        {"keys": [{**published(RECEIVER), "kty": "EC"}]},
        keys.KeyRing(keys.new_key()).published(0),
    ],
)
def test_a_set_without_a_key_to_seal_to_gives_none(jwk_set: object) -> None:
    assert encryption_key(jwk_set) is None


def test_the_key_to_seal_to_is_found_beside_those_that_sign() -> None:
    document = keys.KeyRing(keys.new_key()).published(0)
    document["keys"].append(published(RECEIVER))
    found = encryption_key(document)
    assert found is not None
    assert not found.is_private
    assert found.thumbprint() == RECEIVER.thumbprint()
    assert "d" not in published(RECEIVER)
