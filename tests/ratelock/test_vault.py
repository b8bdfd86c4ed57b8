"""A key-encryption key in Vault's transit engine, through hvac, against Vault itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from jfe_cni.ratelock.faults import KeyUnreachable, SealingError
from jfe_cni.ratelock.keys import open_key
from jfe_cni.ratelock.sealing import Label, Sealing
from tests.ratelock import vault_server
from tests.ratelock.vault_server import Vault

ALICE = Label("alice", "password", 1)


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    with vault_server.running() as server:
        yield server


def sealing(vault: Vault, reference: str = "vault:transit/ratelock", token: str | None = None) -> Sealing:
    return Sealing(open_key(reference, vault.environment(token)))


async def test_what_is_sealed_opens_and_as_nothing_else(vault: Vault) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    assert await sealing(vault).open(sealed, ALICE) == b"payroll"
    for other in (replace(ALICE, name="bob"), replace(ALICE, version=2), replace(ALICE, kind="record")):
        with pytest.raises(SealingError, match="authentication failed") as refused:
            await sealing(vault).open(sealed, other)
        assert not refused.value.temporary


async def test_vaults_own_rotation_needs_none_of_ours(vault: Vault) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    vault.root.secrets.transit.rotate_key("ratelock")
    assert await sealing(vault).open(sealed, ALICE) == b"payroll"


async def test_what_vault_may_not_decrypt_any_more_is_told(vault: Vault) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    vault.root.secrets.transit.rotate_key("ratelock")
    newest = vault.root.secrets.transit.read_key("ratelock")["data"]["latest_version"]
    try:
        vault.root.secrets.transit.update_key_configuration("ratelock", min_decryption_version=newest)
        with pytest.raises(SealingError, match="vault:transit/ratelock"):
            await sealing(vault).open(sealed, ALICE)
    finally:
        vault.root.secrets.transit.update_key_configuration("ratelock", min_decryption_version=1)
    assert await sealing(vault).open(sealed, ALICE) == b"payroll"


async def test_the_mount_is_transit_where_none_is_named(vault: Vault) -> None:
    sealed = await sealing(vault).seal(b"payroll", ALICE)
    assert await sealing(vault, "vault:ratelock").open(sealed, ALICE) == b"payroll"


async def test_a_token_that_may_not_is_said(vault: Vault) -> None:
    for refused in (sealing(vault, token="hvs.other"), sealing(vault, "vault:transit/other")):
        with pytest.raises(SealingError, match=r"permission denied.*its policy allows") as error:
            await refused.seal(b"payroll", ALICE)
        assert not error.value.temporary


async def test_what_another_key_has_wrapped_does_not_open(vault: Vault) -> None:
    """With the root's token, which may use, and makes, any key that is named."""
    root = vault.root.token
    sealed = await sealing(vault, "vault:transit/another", root).seal(b"payroll", ALICE)
    with pytest.raises(SealingError, match="under vault:transit/another"):
        await sealing(vault, token=root).open(sealed, ALICE)


async def test_vault_that_is_sealed_or_away_is_a_matter_of_trying_again(vault: Vault) -> None:
    under = sealing(vault)
    sealed = await under.seal(b"payroll", ALICE)
    vault.root.sys.seal()
    try:
        for attempt in (under.seal(b"payroll", ALICE), under.open(sealed, ALICE)):
            with pytest.raises(KeyUnreachable, match="is unsealed") as refused:
                await attempt
            assert refused.value.temporary
    finally:
        vault.root.sys.submit_unseal_key(vault.unseal_key)
    assert await under.open(sealed, ALICE) == b"payroll"
    away = Sealing(open_key("vault:transit/ratelock", {"VAULT_ADDR": "http://127.0.0.1:9"}))
    with pytest.raises(KeyUnreachable):
        await away.seal(b"payroll", ALICE)
