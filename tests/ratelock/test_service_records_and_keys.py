"""Releasing records and using keys, under budgets, and what is said where there is nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import BudgetSpent, Forbidden
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import Store
from tests.ratelock.services import CALLER, OWNER, logged, service_on, store_at

CARD = {"number": "4111111111111111", "expiry": "12/29", "holder": "Ada Löwenherz"}
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Ratelock]:
    async with service_on(store) as service:
        yield service


async def test_a_record_is_released_field_by_field_and_three_times(service: Ratelock) -> None:
    await service.add_record(OWNER, "card", CARD)
    assert await service.release(CALLER, "card", ["number"]) == {"number": CARD["number"]}
    assert await service.release(CALLER, "card", ["holder", "expiry", "cvc"]) == {
        "holder": CARD["holder"],
        "expiry": CARD["expiry"],
    }
    assert await service.release(CALLER, "card", ["cvc"]) == {}
    with pytest.raises(BudgetSpent):
        await service.release(CALLER, "card", ["number"])


async def test_where_there_is_no_record_the_answer_is_that_of_a_field_that_is_not_there(
    service: Ratelock, store: Store
) -> None:
    await service.add_password(OWNER, "alice", b"right")
    for name in ("nobody", "alice"):
        assert await service.release(CALLER, name, ["number", "decoy"]) == {}
    assert len([entry for entry in await logged(store) if entry.actor == "shop"]) == 2


async def test_an_untold_budget_releases_nothing_and_says_nothing(store: Store) -> None:
    async with service_on(store, tell_budget=False) as service:
        await service.add_record(OWNER, "card", CARD)
        answers = [await service.release(CALLER, "card", ["number"]) for _ in range(5)]
        assert answers == [{"number": CARD["number"]}] * 3 + [{}] * 2
        await service.add_key(OWNER, "signer", "ed25519")
        for _ in range(3):
            await service.sign(CALLER, "signer", b"message")
        with pytest.raises(Forbidden, match="shop may not sign with signer"):
            await service.sign(CALLER, "signer", b"message")


async def test_a_key_signs_three_times_what_its_public_half_verifies(service: Ratelock) -> None:
    pem = await service.add_key(OWNER, "signer", "ed25519")
    assert pem is not None
    public = load_pem_public_key(pem.encode())
    assert isinstance(public, ed25519.Ed25519PublicKey)
    for number in range(3):
        public.verify(await service.sign(CALLER, "signer", b"message %d" % number), b"message %d" % number)
    with pytest.raises(BudgetSpent):
        await service.sign(CALLER, "signer", b"message")


async def test_the_other_algorithms_do_what_they_are_for(service: Ratelock) -> None:
    ecdsa = load_pem_public_key((await service.add_key(OWNER, "ecdsa", "ecdsa-p256") or "").encode())
    assert isinstance(ecdsa, ec.EllipticCurvePublicKey)
    ecdsa.verify(await service.sign(CALLER, "ecdsa", b"message"), b"message", ec.ECDSA(hashes.SHA256()))

    oaep = load_pem_public_key((await service.add_key(OWNER, "oaep", "rsa-oaep-3072") or "").encode())
    assert isinstance(oaep, rsa.RSAPublicKey)
    assert await service.decrypt(CALLER, "oaep", oaep.encrypt(b"message", OAEP)) == b"message"

    assert await service.add_key(OWNER, "hmac", "hmac-sha256") is None
    assert len(await service.mac(CALLER, "hmac", b"message")) == 32
    assert await service.mac(CALLER, "hmac", b"message") == await service.mac(CALLER, "hmac", b"message")


@pytest.mark.parametrize("operation", ["sign", "mac"])
async def test_no_key_a_key_for_something_else_and_another_kind_are_told_by_one_text(
    service: Ratelock, store: Store, operation: Literal["sign", "mac"]
) -> None:
    await service.add_key(OWNER, "oaep", "rsa-oaep-3072")
    await service.add_password(OWNER, "alice", b"right")
    for count, name in enumerate(("nobody", "oaep", "alice"), start=1):
        with pytest.raises(Forbidden) as refused:
            await (service.sign if operation == "sign" else service.mac)(CALLER, name, b"message")
        assert str(refused.value) == (
            f"shop may not {operation} with {name}: see its name; ask an owner for a token that may"
        )
        assert len([entry for entry in await logged(store) if entry.actor == "shop"]) == count


async def test_a_ciphertext_that_does_not_open_is_told_as_where_there_is_no_key(
    service: Ratelock, store: Store
) -> None:
    await service.add_key(OWNER, "oaep", "rsa-oaep-3072")
    await service.add_key(OWNER, "signer", "ed25519")
    for count, name in enumerate(("nobody", "oaep", "signer"), start=1):
        with pytest.raises(RequestError) as refused:
            await service.decrypt(CALLER, name, bytes(384))
        assert refused.value.message == f"the ciphertext does not open with {name}"
        assert len([entry for entry in await logged(store) if entry.actor == "shop"]) == count
