"""Records and keys, once they are opened."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.secrets import key, record
from jfe_cni.ratelock.store import Operation

CARD = {"number": "4111111111111111", "expiry": "12/29", "holder": "Ada Löwenherz"}

fields = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,20}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=50)


@given(st.dictionaries(fields, texts, min_size=1, max_size=20), st.data())
def test_of_a_record_comes_what_was_asked_for_and_nothing_else(whole: dict[str, str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(sorted(whole)) | fields, min_size=1))
    assert record.release(record.encode(whole), asked) == {each: whole[each] for each in asked if each in whole}


def test_a_field_that_is_not_there_is_left_out() -> None:
    assert record.release(record.encode(CARD), ["number", "cvc"]) == {"number": "4111111111111111"}
    assert record.release(record.encode(CARD), ["cvc"]) == {}


@pytest.mark.parametrize("name", ["", "*", "a b", "a\nb", "__class__", "é", "a" * 129])
def test_a_field_is_called_by_letters_that_mean_nothing(name: str) -> None:
    with pytest.raises(RequestError, match="a field can't be called"):
        record.check_fields([name])
    with pytest.raises(RequestError, match="a field can't be called"):
        record.encode({name: "value"})


def test_records_are_bounded() -> None:
    with pytest.raises(RequestError, match="0 fields"):
        record.encode({})
    with pytest.raises(RequestError, match="257 fields"):
        record.check_fields([f"f{number}" for number in range(257)])
    with pytest.raises(RequestError, match="262154 bytes"):
        record.encode({"f": "x" * (262_154 - 8)})
    with pytest.raises(RequestError, match="surrogate"):
        record.encode({"f": "\ud800"})


@pytest.mark.parametrize("opened", [b"", b"\xff", b"[]", b"3", b'"number"', b"null", b'["number"]'])
def test_what_is_no_record_is_a_fault(opened: bytes) -> None:
    with pytest.raises(SealingError, match="record is none"):
        record.release(opened, ["number"])


@pytest.fixture(scope="module", params=list(key.ALGORITHMS))
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


OPERATIONS: list[Operation] = ["check", "release", "sign", "decrypt", "mac", "certify"]


def test_a_key_does_its_one_operation_and_no_other(algorithm: str) -> None:
    made = key.generate(algorithm)
    own = key.ALGORITHMS[algorithm].operation
    for operation in OPERATIONS:
        if operation != own:
            assert key.use(made.opened, operation, b"message") is None
    if own != "decrypt":
        assert key.use(made.opened, own, b"message")


def test_two_keys_are_never_the_same(algorithm: str) -> None:
    assert key.generate(algorithm).opened != key.generate(algorithm).opened


def test_nothing_of_the_private_half_is_public(algorithm: str) -> None:
    made = key.generate(algorithm)
    if algorithm == "hmac-sha256":
        assert made.public is None
        return
    assert made.public is not None
    assert made.public.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert made.public.count("-----BEGIN") == 1
    assert load_der_private_key(made.opened.partition(b"\n")[2], None)


def test_a_ciphertext_for_another_key_does_not_open() -> None:
    made = key.generate("rsa-oaep-3072")
    for ciphertext in (b"", bytes(384), b"\xff" * 384, bytes(383), bytes(10_000)):
        assert key.use(made.opened, "decrypt", ciphertext) is None


def test_an_algorithm_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RequestError, match="choose ed25519, ecdsa-p256, hmac-sha256, rsa-oaep-3072"):
        key.generate("rot13")


@pytest.mark.parametrize(
    "opened", [b"", b"rot13\nx", b"ed25519\nnot DER", b"\xff\n", json.dumps(CARD).encode(), b"rsa-oaep-3072\n"]
)
def test_what_is_no_key_is_a_fault(opened: bytes) -> None:
    with pytest.raises(SealingError, match="key is none"):
        key.use(opened, "sign" if opened.startswith(b"ed") else "decrypt", b"message")


def test_messages_are_bounded() -> None:
    key.check_message(bytes(65_536))
    with pytest.raises(RequestError, match="sign its digest"):
        key.check_message(bytes(65_537))
