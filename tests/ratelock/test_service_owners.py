"""Who may do what: owners change and use nothing, callers use and change nothing; and the log says what owners did."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.errors import ConflictError, RequestError
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.checkpoints import Checkpoint
from jfe_cni.ratelock.faults import Forbidden, UnknownSecret, UnknownToken
from jfe_cni.ratelock.log import Anchor
from jfe_cni.ratelock.service import Ratelock, SecretView
from jfe_cni.ratelock.store import Operation, OwnerAct, Store
from jfe_cni.ratelock.stores import open_store
from jfe_cni.ratelock.tokens import digest
from tests.ratelock.services import CALLER, OWNER, logged, service_on, store_at

ALICE = Meter("secret", "alice")
FEW = Budget((Limit(1, 60_000_000), Limit(100, 86_400_000_000)), loosening_delay=3_600_000_000)
READS: frozenset[Operation] = frozenset({"release"})

Asked = Callable[[Ratelock, Caller], Awaitable[Any]]

OF_OWNERS: dict[str, Asked] = {
    "add_password": lambda service, who: service.add_password(who, "new", b"right"),
    "add_password, replacing": lambda service, who: service.add_password(who, "alice", b"other", replace=True),
    "add_record": lambda service, who: service.add_record(who, "new", {"number": "4111"}),
    "add_key": lambda service, who: service.add_key(who, "new", "ed25519", "signers"),
    "add_authority": lambda service, who: service.add_authority(who, "new", "jfe.test"),
    "rotate_authority": lambda service, who: service.rotate_authority(who, "ca", "begin"),
    "remove": lambda service, who: service.remove(who, "alice"),
    "list_secrets": lambda service, who: service.list_secrets(who),
    "budget": lambda service, who: service.budget(who, ALICE),
    "budgets": lambda service, who: service.budgets(who),
    "set_budget": lambda service, who: service.set_budget(who, ALICE, FEW),
    "set_budget, to none": lambda service, who: service.set_budget(who, ALICE, None),
    "make_token": lambda service, who: service.make_token(who, "till", "caller", READS, ("card-*",), 3600),
    "revoke_token": lambda service, who: service.revoke_token(who, bytes(32)),
    "reseal": lambda service, who: service.reseal(who),
}
READING_THE_LOG: dict[str, Asked] = {
    "log": lambda service, who: anext(service.log(who)),
    "verify_log": lambda service, who: service.verify_log(who),
    "checkpoint": lambda service, who: service.checkpoint(who),
}
OF_CALLERS: dict[str, Asked] = {
    "check": lambda service, who: service.check(who, "alice", b"right"),
    "release": lambda service, who: service.release(who, "card", ["number"]),
    "sign": lambda service, who: service.sign(who, "signer", b"message"),
    "mac": lambda service, who: service.mac(who, "hmac", b"message"),
    "decrypt": lambda service, who: service.decrypt(who, "oaep", bytes(384)),
    "certify": lambda service, who: service.certify(who, "ca", "", "n1"),
}
LOGGED = {
    "add_password": ("secret.add", "new", "password class="),
    "add_password, replacing": ("secret.replace", "alice", "password class="),
    "add_record": ("secret.add", "new", "record class="),
    "add_key": ("secret.add", "new", "key class=signers"),
    "add_authority": ("secret.add", "new", "key class="),
    "rotate_authority": ("authority.rotate", "ca", "begin"),
    "remove": ("secret.remove", "alice", ""),
    "list_secrets": ("secret.list", "all", ""),
    "budget": ("budget.read", "secret:alice", ""),
    "budgets": ("budget.list", "all", ""),
    "set_budget": ("budget.set", "secret:alice", "1/60s and 100/86400s loosening-delay=3600s"),
    "set_budget, to none": ("budget.remove", "secret:alice", ""),
    "make_token": ("token.make", "till", "caller operations=release secrets=card-* expires="),
    "reseal": ("secret.reseal", "all", ""),
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Ratelock]:
    async with service_on(store) as service:
        await service.add_password(OWNER, "alice", b"right")
        await service.add_record(OWNER, "card", {"number": "4111"})
        await service.add_key(OWNER, "signer", "ed25519")
        await service.add_key(OWNER, "hmac", "hmac-sha256")
        await service.add_authority(OWNER, "ca", "jfe.test")
        await service.set_budget(OWNER, ALICE, Budget((Limit(2, 10_000_000),)))
        yield service


def test_every_operation_is_in_one_of_the_tables() -> None:
    asked = {name for name in vars(Ratelock) if not name.startswith("_")}
    # `trust_bundle` is for whoever may certify: see test_authority.py.
    not_asked = {"open", "authenticate_token", "bootstrap", "checkpoint_key", "trust_bundle"}
    listed = {name.partition(",")[0] for name in [*OF_OWNERS, *READING_THE_LOG, *OF_CALLERS]}
    assert asked == listed | not_asked


async def everything(store: Store) -> tuple[object, ...]:
    return await store.secrets(), await store.budgets(), len(await logged(store))


@pytest.mark.parametrize("operation", [*OF_OWNERS, *READING_THE_LOG])
async def test_a_caller_changes_nothing_and_reads_nothing_of_an_owners(
    service: Ratelock, store: Store, operation: str
) -> None:
    before = await everything(store)
    with pytest.raises(Forbidden, match="shop is a caller"):
        await (OF_OWNERS | READING_THE_LOG)[operation](service, CALLER)
    assert await everything(store) == before


@pytest.mark.parametrize("operation", OF_CALLERS)
async def test_an_owner_uses_no_secret(service: Ratelock, store: Store, operation: str) -> None:
    before = await everything(store)
    with pytest.raises(Forbidden, match="olga is an owner"):
        await OF_CALLERS[operation](service, OWNER)
    assert await everything(store) == before


@pytest.mark.parametrize("allowed", ["check", "release", "sign", "mac", "decrypt"])
@pytest.mark.parametrize("operation", OF_CALLERS)
async def test_a_caller_does_what_its_credential_says_and_nothing_else(
    service: Ratelock, store: Store, operation: str, allowed: Operation
) -> None:
    narrow = Caller("till", "caller", frozenset({allowed}), ("*",))
    before = await everything(store)
    if operation == allowed:
        if operation == "decrypt":
            with pytest.raises(RequestError, match="does not open"):
                await OF_CALLERS[operation](service, narrow)
        else:
            assert await OF_CALLERS[operation](service, narrow)
        assert await everything(store) != before
    else:
        with pytest.raises(Forbidden, match=f"till may not {operation}"):
            await OF_CALLERS[operation](service, narrow)
        assert await everything(store) == before


@pytest.mark.parametrize(
    ("patterns", "may"),
    [
        (("*",), True),
        (("card",), True),
        (("c*",), True),
        (("card*",), True),
        (("x", "ca*"), True),
        ((), False),
        (("car",), False),
        (("card2",), False),
        (("card2*",), False),
        (("CARD",), False),
        (("",), False),
    ],
)
async def test_a_caller_uses_the_secrets_of_its_patterns_and_no_others(
    service: Ratelock, store: Store, patterns: tuple[str, ...], may: bool
) -> None:
    caller = Caller("till", "caller", None, patterns)
    if may:
        assert await service.release(caller, "card", ["number"])
        return
    before = await everything(store)
    with pytest.raises(Forbidden, match="till may not release with card"):
        await service.release(caller, "card", ["number"])
    assert await everything(store) == before


@pytest.mark.parametrize("operation", LOGGED)
async def test_the_log_says_what_an_owner_did(service: Ratelock, store: Store, operation: str) -> None:
    before = len(await logged(store))
    await OF_OWNERS[operation](service, OWNER)
    (entry,) = (await logged(store))[before:]
    event, subject, detail = LOGGED[operation]
    assert (entry.actor, entry.event, entry.subject) == ("olga", event, subject)
    assert detail in entry.detail


def test_every_owners_operation_but_one_has_its_line_in_that_table() -> None:
    # To revoke a token it must be made first: see below.
    assert OF_OWNERS.keys() - LOGGED.keys() == {"revoke_token"}


async def test_what_is_listed_is_no_secret(service: Ratelock) -> None:
    pem = await service.add_key(OWNER, "signer", "ed25519", "signers", replace=True)
    bundle = await service.add_authority(OWNER, "ca", "jfe.test", replace=True)
    assert list(await service.list_secrets(OWNER)) == [
        SecretView("alice", "password", "", None),
        SecretView("ca", "key", "", bundle),
        SecretView("card", "record", "", None),
        SecretView("hmac", "key", "", None),
        SecretView("signer", "key", "signers", pem),
    ]


async def test_a_secret_is_added_once_and_replaced_by_its_own_kind(service: Ratelock) -> None:
    with pytest.raises(ConflictError, match="alice is there already"):
        await service.add_password(OWNER, "alice", b"other")
    with pytest.raises(ConflictError, match="no record alice to replace"):
        await service.add_record(OWNER, "alice", {"number": "4111"}, replace=True)
    with pytest.raises(ConflictError, match="no password nobody to replace"):
        await service.add_password(OWNER, "nobody", b"right", replace=True)
    await service.add_password(OWNER, "alice", b"other", replace=True)
    assert [await service.check(CALLER, "alice", each) for each in (b"right", b"other")] == [False, True]


async def test_a_secret_that_was_removed_is_nobodys(service: Ratelock) -> None:
    await service.remove(OWNER, "alice")
    assert await service.check(CALLER, "alice", b"right") is False
    with pytest.raises(UnknownSecret, match="no secret is called alice"):
        await service.remove(OWNER, "alice")


async def test_nobody_reaches_the_root_key(service: Ratelock) -> None:
    for ask in (
        lambda: service.remove(OWNER, "~root"),
        lambda: service.add_key(OWNER, "~root", "ed25519", replace=True),
        lambda: service.mac(CALLER, "~root", b"message"),
        lambda: service.set_budget(OWNER, Meter("secret", "~root"), FEW),
    ):
        with pytest.raises(RequestError, match="can't be called '~root'"):
            await ask()


async def test_a_token_is_its_holders_until_it_is_revoked(service: Ratelock, store: Store) -> None:
    token = await service.make_token(OWNER, "till", "caller", READS, ("card*", "signer"), 3600)
    assert token.startswith("rl_")
    assert len(token) == 46
    assert await service.authenticate_token(token) == Caller("till", "caller", READS, ("card*", "signer"))
    for other in ("", "rl_", token[:-1], token + "A", token.swapcase(), "rl_" + "A" * 43, "till"):
        assert await service.authenticate_token(other) is None

    hashed = digest(token)
    assert hashed is not None
    await service.revoke_token(OWNER, hashed)
    assert await service.authenticate_token(token) is None
    entry = (await logged(store))[-1]
    assert (entry.actor, entry.event, entry.subject) == ("olga", "token.revoke", hashed.hex())
    for unknown in (hashed, b"", b"1"):
        with pytest.raises(UnknownToken):
            await service.revoke_token(OWNER, unknown)


async def test_a_token_ends_by_itself(service: Ratelock, store: Store) -> None:
    token = await service.make_token(OWNER, "till", "caller", READS, ("*",), 0.000001)
    made = await store.now()
    while await store.now() <= made + 1:
        pass
    assert await service.authenticate_token(token) is None


async def test_an_owners_token_is_an_owner(service: Ratelock) -> None:
    token = await service.make_token(OWNER, "oscar", "owner", frozenset(), (), 3600)
    owner = await service.authenticate_token(token)
    assert owner == Caller("oscar", "owner", None, ("*",))
    assert len(await service.list_secrets(owner)) == 5


@pytest.mark.parametrize(
    ("identity", "role", "operations", "secrets", "expires_in", "why"),
    [
        ("till", "caller", frozenset(), ("*",), 60, "no operation"),
        ("till", "caller", READS, (), 60, "no secret"),
        ("till", "caller", READS, ("card**",), 60, "a pattern of secrets"),
        ("till", "caller", READS, ("",), 60, "a pattern of secrets"),
        ("till", "caller", READS, ("*card",), 60, "a pattern of secrets"),
        ("oscar", "owner", READS, ("*",), 60, "no scope"),
        ("oscar", "owner", frozenset(), ("card",), 60, "no scope"),
        ("a\nb", "caller", READS, ("*",), 60, "a caller can't be called"),
        ("till", "caller", READS, ("*",), 0, "a token for 0 s"),
        ("till", "caller", READS, ("*",), float("nan"), "a token for nan s"),
        ("till", "caller", READS, ("*",), 1e12, "a token for 1e.12 s"),
    ],
)
async def test_a_token_that_can_be_of_no_use_is_not_made(
    service: Ratelock,
    store: Store,
    identity: str,
    role: Any,
    operations: Any,
    secrets: Any,
    expires_in: float,
    why: str,
) -> None:
    before = await everything(store)
    with pytest.raises(RequestError, match=why):
        await service.make_token(OWNER, identity, role, operations, secrets, expires_in)
    assert await everything(store) == before


@pytest.mark.parametrize("meter", [Meter("all", "x"), Meter("secret"), Meter("caller", "a b"), Meter("class", "")])
async def test_a_meter_that_nobody_charges_has_no_budget(service: Ratelock, meter: Meter) -> None:
    with pytest.raises(RequestError):
        await service.set_budget(OWNER, meter, FEW)
    with pytest.raises(RequestError):
        await service.budget(OWNER, meter)


async def test_what_was_removed_and_added_again_is_not_replaced_by_who_had_read_the_former(
    service: Ratelock, store: Store
) -> None:
    read = await store.secret("alice")
    assert read is not None
    await service.remove(OWNER, "alice")
    await service.add_password(OWNER, "alice", b"other")
    with pytest.raises(ConflictError, match="alice has changed"):
        await store.put_secret(read, OwnerAct("olga", "secret.replace", "alice"), expected_version=read.version)
    assert await service.check(CALLER, "alice", b"other")


async def test_a_store_that_nobody_has_used_has_one_first_owner(store: Store) -> None:
    async with service_on(store) as service:
        token = await service.bootstrap()
        assert token is not None
        assert await service.authenticate_token(token) == Caller("owner", "owner", None, ("*",))
        assert await service.bootstrap() is None
    async with service_on(store) as again:
        assert await again.bootstrap() is None


async def test_a_first_token_that_nobody_saw_is_made_again_until_an_owner_has_done_something(store: Store) -> None:
    async with service_on(store) as service:
        lost = await service.bootstrap()
        assert lost is not None
    async with service_on(store) as service:
        # A caller that has a certificate may come first.
        await service.check(CALLER, "alice", b"guess")
        token = await service.bootstrap(again=True)
        assert token is not None
        assert await service.authenticate_token(lost) is None
        owner = await service.authenticate_token(token)
        assert owner is not None
        await service.list_secrets(owner)
        assert await service.bootstrap(again=True) is None
        assert await service.authenticate_token(token) == owner


async def test_of_replicas_that_start_together_one_has_the_first_owners_token(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        for _ in range(4):
            store = await open_store(url)
            stack.push_async_callback(store.close)
            replicas.append(await stack.enter_async_context(service_on(store)))
        made = await asyncio.gather(*(replica.bootstrap() for replica in replicas))
        (first,) = [token for token in made if token is not None]
        assert await replicas[0].authenticate_token(first) == Caller("owner", "owner", None, ("*",))
        entries = [entry async for entry in store.entries()]
        made_and_kept = [entry.event for entry in entries if entry.event.startswith("token.")]
        assert made_and_kept.count("token.make") == made_and_kept.count("token.revoke") + 1


async def test_a_store_that_was_used_by_another_owner_has_no_first_one_any_more(service: Ratelock) -> None:
    assert await service.bootstrap() is None


async def test_reading_the_log_is_in_it_once_in_a_while_and_signing_it_each_time(
    service: Ratelock, store: Store
) -> None:
    for _ in range(3):
        _ = [entry async for entry in service.log(OWNER)]
        await service.verify_log(OWNER)
    await service.checkpoint(OWNER)
    await service.checkpoint(OWNER)
    _ = [entry async for entry in service.log(Caller("oscar", "owner", None, ("*",)))]
    told = [(entry.actor, entry.event) for entry in await logged(store) if entry.event.startswith("log.")]
    assert told == [
        ("olga", "log.read"),
        ("olga", "log.checkpoint"),
        ("olga", "log.checkpoint"),
        ("oscar", "log.read"),
    ]


async def test_a_checkpoint_vouches_for_the_log_up_to_it(service: Ratelock, store: Store) -> None:
    checkpoint = await service.checkpoint(OWNER)
    await service.remove(OWNER, "alice")
    verdict = await service.verify_log(OWNER, [Checkpoint.parse(checkpoint.text())])
    assert verdict.broken is None
    assert (verdict.entries, verdict.anchored) == (len(await logged(store)), checkpoint.anchor.number)
    forged = Checkpoint(Anchor(1, bytes(32), 1), checkpoint.signature)
    with pytest.raises(RequestError, match="not signed by this key"):
        await service.verify_log(OWNER, [forged])
    async with service_on(store) as replica:
        assert replica.checkpoint_key == service.checkpoint_key
        assert (await replica.verify_log(OWNER, [checkpoint])).broken is None


async def test_nothing_that_an_owner_is_told_or_logs_is_a_secret(service: Ratelock, store: Store) -> None:
    await service.add_password(OWNER, "carol", b"correct horse")
    await service.add_record(OWNER, "chart", {"diagnosis": "correct horse"})
    told = [
        await ask(service, OWNER)
        for name, ask in OF_OWNERS.items()
        if name not in {"revoke_token", "remove"} and not name.startswith("add_")
    ]
    said = repr(told) + json.dumps([vars(entry) for entry in await logged(store)], default=repr)
    assert "correct horse" not in said
