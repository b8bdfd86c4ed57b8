"""A key-encryption key in KMS, as moto's server speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jfe_cni.ratelock.faults import KeyUnreachable, SealingError
from jfe_cni.ratelock.keys import open_key
from jfe_cni.ratelock.sealing import Label, Sealing

ALICE = Label("alice", "password", 1)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def kms(endpoint: str) -> Any:
    return boto3.client("kms", region_name="eu-central-1", endpoint_url=endpoint)


def sealing(arn: str, endpoint: str, *former: str) -> Sealing:
    keys = [open_key(f"kms:{each}", {"AWS_ENDPOINT_URL_KMS": endpoint}) for each in (arn, *former)]
    return Sealing(keys[0], keys[1:])


def new_key(kms: Any) -> str:
    return str(kms.create_key()["KeyMetadata"]["Arn"])


async def test_what_is_sealed_opens_and_as_nothing_else(kms: Any, endpoint: str) -> None:
    under = sealing(new_key(kms), endpoint)
    sealed = await under.seal(b"payroll", ALICE)
    assert await under.open(sealed, ALICE) == b"payroll"
    for other in (replace(ALICE, name="bob"), replace(ALICE, version=2), replace(ALICE, kind="record")):
        with pytest.raises(SealingError, match=r"KMS refuses to decrypt .*InvalidCiphertext") as refused:
            await under.open(sealed, other)
        assert not refused.value.temporary


async def test_the_context_alone_keeps_a_wrapped_key_to_its_secret(kms: Any, endpoint: str) -> None:
    arn = new_key(kms)
    key = open_key(f"kms:{arn}", {"AWS_ENDPOINT_URL_KMS": endpoint})
    wrapped = await key.wrap(b"k" * 32, ALICE.context)
    opened = kms.decrypt(KeyId=arn, CiphertextBlob=wrapped, EncryptionContext=ALICE.context)
    assert opened["Plaintext"] == b"k" * 32
    assert json.loads(json.dumps(ALICE.context))["ratelock:name"] == "alice"
    with pytest.raises(SealingError):
        await key.unwrap(wrapped, {})


async def test_keys_are_rotated_from_one_to_another(kms: Any, endpoint: str) -> None:
    former, new = new_key(kms), new_key(kms)
    old = await sealing(former, endpoint).seal(b"payroll", ALICE)
    both = sealing(new, endpoint, former)
    assert not both.is_current(old, "alice")
    fresh = await both.seal(await both.open(old, ALICE), ALICE)
    kms.disable_key(KeyId=former.rpartition("/")[2])
    assert await sealing(new, endpoint).open(fresh, ALICE) == b"payroll"


async def test_a_key_that_is_not_there_is_said(endpoint: str) -> None:
    gone = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with pytest.raises(SealingError, match=f"KMS refuses to encrypt with {gone}: NotFoundException") as refused:
        await sealing(gone, endpoint).seal(b"payroll", ALICE)
    assert not refused.value.temporary


async def test_kms_that_is_away_is_a_matter_of_trying_again(kms: Any, endpoint: str) -> None:
    arn = new_key(kms)
    with pytest.raises(KeyUnreachable, match="KMS can't be asked to encrypt") as refused:
        await sealing(arn, "http://127.0.0.1:9").seal(b"payroll", ALICE)
    assert refused.value.temporary
