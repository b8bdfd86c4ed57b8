"""A key-encryption key in Vault's transit engine, through hvac, against a stand-in that speaks its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jfe_cni.ratelock.faults import KeyUnreachable, SealingError
from jfe_cni.ratelock.keys import open_key
from jfe_cni.ratelock.sealing import Label, Sealing
from tests.ratelock import transit

ALICE = Label("alice", "password", 1)


@pytest.fixture
def vault() -> Iterator[transit.Transit]:
    with transit.running() as server:
        server.rotate("transit/ratelock")
        yield server


def sealing(vault: transit.Transit, reference: str = "vault:transit/ratelock", token: str = transit.TOKEN) -> Sealing:
    return Sealing(open_key(reference, {"VAULT_ADDR": vault.address, "VAULT_TOKEN": token}))


async def test_what_is_sealed_opens_and_as_nothing_else(vault: transit.Transit) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    assert await sealing(vault).open(sealed, ALICE) == b"payroll"
    for other in (replace(ALICE, name="bob"), replace(ALICE, version=2), replace(ALICE, kind="record")):
        with pytest.raises(SealingError, match="authentication failed") as refused:
            await sealing(vault).open(sealed, other)
        assert not refused.value.temporary


async def test_vaults_own_rotation_needs_none_of_ours(vault: transit.Transit) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    vault.rotate("transit/ratelock")
    assert await sealing(vault).open(sealed, ALICE) == b"payroll"


async def test_the_mount_is_transit_where_none_is_named(vault: transit.Transit) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    assert await sealing(vault, "vault:ratelock").open(sealed, ALICE) == b"payroll"


async def test_a_token_that_may_not_and_a_key_that_is_not_there_are_said(vault: transit.Transit) -> None:
    with pytest.raises(SealingError, match=r"permission denied.*its policy allows") as refused:
        await sealing(vault, token="hvs.other").seal(b"payroll", ALICE)
    assert not refused.value.temporary
    with pytest.raises(SealingError, match="vault:transit/other: encryption key not found"):
        await sealing(vault, "vault:transit/other").seal(b"payroll", ALICE)


async def test_vault_that_is_sealed_or_away_is_a_matter_of_trying_again(vault: transit.Transit) -> None:
    under = sealing(vault)
    vault.sealed = True
    with pytest.raises(KeyUnreachable, match="is unsealed") as refused:
        await under.seal(b"payroll", ALICE)
    assert refused.value.temporary
    away = Sealing(open_key("vault:transit/ratelock", {"VAULT_ADDR": "http://127.0.0.1:9"}))
    with pytest.raises(KeyUnreachable):
        await away.seal(b"payroll", ALICE)
