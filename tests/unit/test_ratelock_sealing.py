"""What is sealed opens as what it was sealed as, under the key that it was sealed under, and in no other way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.keys.local import LocalKey
from jfe_cni.ratelock.sealing import Label, Sealing

ALICE = Label("alice", "password", 3)
KEY = LocalKey(bytes(range(32)))
SEALING = Sealing(KEY)
PLAINTEXT = b"four and twenty blackbirds"
SEALED = asyncio.run(SEALING.seal(PLAINTEXT, ALICE))

names = st.text(st.characters(codec="utf-8"), max_size=300)
labels = st.builds(Label, names, st.sampled_from(["password", "record", "key", "walliam"]), st.integers(0, 2**63))


def opened(sealed: bytes, label: Label = ALICE, sealing: Sealing = SEALING) -> bytes:
    return asyncio.run(sealing.open(sealed, label))


@given(st.binary(max_size=5000), labels)
def test_what_is_sealed_opens(plaintext: bytes, label: Label) -> None:
    assert opened(asyncio.run(SEALING.seal(plaintext, label)), label) == plaintext


@pytest.mark.parametrize("position", range(len(SEALED)))
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_no_byte_can_be_changed(position: int, bit: int) -> None:
    altered = bytearray(SEALED)
    altered[position] ^= bit
    with pytest.raises(SealingError):
        opened(bytes(altered))


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_nothing_can_be_cut_off(length: int) -> None:
    with pytest.raises(SealingError):
        opened(SEALED[:length])
    with pytest.raises(SealingError):
        opened(SEALED[length + 1 :])


@given(st.binary(max_size=400))
def test_nothing_else_opens(noise: bytes) -> None:
    with pytest.raises(SealingError):
        opened(noise)
    with pytest.raises(SealingError):
        opened(SEALED + noise + b"\0")


@pytest.mark.parametrize(
    "other",
    [
        replace(ALICE, name="bob"),
        replace(ALICE, kind="record"),
        replace(ALICE, version=2),
        Label("alicepassword", "", 3),
    ],
)
def test_it_opens_as_nothing_else(other: Label) -> None:
    with pytest.raises(SealingError, match=other.name):
        opened(SEALED, other)


@given(labels, labels)
def test_two_labels_are_never_one_text(one: Label, other: Label) -> None:
    assert (one.as_bytes() == other.as_bytes()) == (one == other)


class Permissive:
    """Wraps with what LocalKey does, and binds to no context: as a key might whose service ignores it."""

    def __init__(self) -> None:
        self._key = LocalKey(bytes(32))
        self.id = "permissive"

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        return await self._key.wrap(data_key, {})

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        return await self._key.unwrap(wrapped, {})


def test_it_opens_as_nothing_else_even_where_the_key_would_unwrap_for_anybody() -> None:
    sealing = Sealing(Permissive())
    sealed = asyncio.run(sealing.seal(PLAINTEXT, ALICE))
    assert opened(sealed, ALICE, sealing) == PLAINTEXT
    with pytest.raises(SealingError, match="was not sealed as bob"):
        opened(sealed, replace(ALICE, name="bob"), sealing)


async def test_a_data_key_of_one_secret_does_not_unwrap_for_another() -> None:
    wrapped = await KEY.wrap(b"k" * 32, ALICE.context)
    assert await KEY.unwrap(wrapped, ALICE.context) == b"k" * 32
    with pytest.raises(SealingError, match="bob"):
        await KEY.unwrap(wrapped, replace(ALICE, name="bob").context)


async def test_the_same_is_never_sealed_twice_to_the_same_bytes() -> None:
    sealed = [await SEALING.seal(PLAINTEXT, ALICE) for _ in range(50)]
    start = 4 + len(KEY.id)
    assert len({each[start:] for each in sealed}) == 50
    assert len({each[-len(PLAINTEXT) - 16 :] for each in sealed}) == 50


async def test_one_key_seals_and_former_ones_open() -> None:
    former, new = LocalKey(os.urandom(32)), LocalKey(os.urandom(32))
    old = await Sealing(former).seal(PLAINTEXT, ALICE)
    both = Sealing(new, [former])
    assert await both.open(old, ALICE) == PLAINTEXT
    assert not both.is_current(old, "alice")
    fresh = await both.seal(PLAINTEXT, ALICE)
    assert both.is_current(fresh, "alice")
    assert await Sealing(new).open(fresh, ALICE) == PLAINTEXT
    with pytest.raises(SealingError, match=f"alice is sealed under {former.id}, which was not given"):
        await Sealing(new).open(old, ALICE)


async def test_a_key_of_the_same_name_that_is_another_does_not_open() -> None:
    class Impostor(Permissive):
        def __init__(self) -> None:
            super().__init__()
            self.id = KEY.id

    with pytest.raises(SealingError):
        await Sealing(Impostor()).open(SEALED, ALICE)


def test_a_key_is_called_something_that_can_stand_before_a_secret() -> None:
    for name in ("", "ä", "k" * 256):
        key = Permissive()
        key.id = name
        with pytest.raises(RequestError, match="key-encryption key"):
            Sealing(key)
