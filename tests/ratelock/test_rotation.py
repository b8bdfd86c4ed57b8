"""The key-encryption key is rotated while the service answers; who does it may be killed anywhere and begin again."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jfe_cni.ratelock import root
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.keys.local import LocalKey
from jfe_cni.ratelock.rotation import reseal
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import Store
from tests.ratelock.services import CALLER, CHEAP, OWNER, service_on, store_at

FORMER, NEW = os.urandom(32), os.urandom(32)
PLENTY = Budget((Limit(1_000_000, 1_000_000),))
PASSWORDS = {f"user{number}": b"password of %d" % number for number in range(12)}
RECORDS = {f"card{number}": {"number": f"4111 {number}"} for number in range(12)}
# And the signing key, and the root key.
ALL = len(PASSWORDS) + len(RECORDS) + 2


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store, all of it sealed under the former key."""
    path = tmp_path / "store.db"
    async with store_at(path) as store, service_on(store, Sealing(LocalKey(FORMER))) as service:
        for name, password in PASSWORDS.items():
            await service.add_password(OWNER, name, password)
        for name, fields in RECORDS.items():
            await service.add_record(OWNER, name, fields)
        await service.add_key(OWNER, "signer", "ed25519")
        for name in (*PASSWORDS, *RECORDS, "signer"):
            await service.set_budget(OWNER, Meter("secret", name), PLENTY)
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with store_at(path) as store:
        yield store


def both() -> Sealing:
    return Sealing(LocalKey(NEW), [LocalKey(FORMER)])


async def left(store: Store) -> int:
    return sum(not both().is_current(stored.sealed, stored.name) for stored in await store.secrets())


async def answers_rightly(service: Ratelock) -> None:
    for name, password in PASSWORDS.items():
        assert await service.check(CALLER, name, password) is True
        assert await service.check(CALLER, name, password + b"0") is False
    for name, fields in RECORDS.items():
        assert await service.release(CALLER, name, ["number"]) == fields
    assert len(await service.sign(CALLER, "signer", b"message")) == 64


async def sealed_anew(path: Path, *until_killed: int) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.ratelock.resealing",
        path,
        base64.b64encode(FORMER),
        base64.b64encode(NEW),
        *map(str, until_killed),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said


@pytest.mark.parametrize("until_killed", [1, 2, 9, 14])
async def test_rotation_under_load_ended_in_the_middle_goes_on_where_it_was(
    path: Path, store: Store, until_killed: int
) -> None:
    # Passwords are hashed anew meanwhile, so that both write to the same secrets.
    async with service_on(store, both(), cost=Cost(128, 2, 1)) as service:
        ended = asyncio.Event()

        async def load() -> int:
            rounds = 0
            while not ended.is_set():
                await answers_rightly(service)
                rounds += 1
            return rounds

        loads = [asyncio.create_task(load()) for _ in range(3)]
        try:
            code, _ = await sealed_anew(path, until_killed)
            assert code == -signal.SIGKILL
            assert await left(store) > 0
            code, _ = await sealed_anew(path)
            assert code == 0
            assert await left(store) == 0
        finally:
            ended.set()
            rounds = await asyncio.gather(*loads)
        assert all(rounds)
    async with service_on(store, Sealing(LocalKey(NEW)), cost=Cost(128, 2, 1)) as service:
        await answers_rightly(service)


async def test_each_secret_is_sealed_anew_once(path: Path, store: Store) -> None:
    assert await left(store) == ALL
    code, _ = await sealed_anew(path, 6)
    assert code == -signal.SIGKILL
    assert await left(store) == ALL - 5
    assert await sealed_anew(path) == (0, b"%d\n" % (ALL - 5))
    assert await sealed_anew(path) == (0, b"0\n")


async def test_afterwards_the_former_key_can_go_and_opens_nothing_more(path: Path, store: Store) -> None:
    with pytest.raises(SealingError, match="which was not given"):
        async with service_on(store, Sealing(LocalKey(NEW))):
            pass
    await reseal(store, both())
    async with service_on(store, Sealing(LocalKey(NEW))) as service:
        await answers_rightly(service)
    for stored in await store.secrets():
        with pytest.raises(SealingError):
            await Sealing(LocalKey(FORMER)).open(stored.sealed, Label(stored.name, stored.kind, stored.version))


async def test_the_pepper_outlives_the_key(store: Store) -> None:
    before = await root.load(store, both())
    await reseal(store, both())
    after = await root.load(store, Sealing(LocalKey(NEW)))
    assert (after.pepper, after.requests) == (before.pepper, before.requests)


async def test_two_at_once_do_it_together(store: Store) -> None:
    assert sum(await asyncio.gather(*(reseal(store, both()) for _ in range(4)))) == ALL
    assert await left(store) == 0


async def test_what_does_not_open_is_named_and_keeps_nothing_else_waiting(path: Path, store: Store) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE secrets SET sealed = substr(sealed, 1, 100) WHERE name = 'card3'")
        database.execute("UPDATE secrets SET sealed = x'00' WHERE name = 'card4'")
    with pytest.raises(SealingError, match="2 secrets do not open, and stay as they are: card3, card4"):
        await reseal(store, both())
    async with service_on(store, Sealing(LocalKey(NEW)), cost=CHEAP) as service:
        for name in RECORDS.keys() - {"card3", "card4"}:
            assert await service.release(CALLER, name, ["number"]) == RECORDS[name]


async def test_a_secret_that_changes_meanwhile_is_not_set_back(store: Store) -> None:
    stored = await store.secret("card1")
    assert stored is not None
    async with service_on(store, both()) as service:
        await service.add_record(OWNER, "card1", {"number": "5500"}, replace=True)
        assert not await store.reseal("card1", stored.sealed, expected_version=stored.version, changed=stored.changed)
        await reseal(store, both())
        assert await service.release(CALLER, "card1", ["number"]) == {"number": "5500"}
