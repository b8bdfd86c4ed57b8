"""WallIAM against moto's IAM and STS, which verify signatures: a password is right where the cloud lets it in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest

from jfe_cni.errors import ConflictError, RequestError, StoreError
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.faults import BudgetSpent, SealingError, UnknownSecret
from jfe_cni.ratelock.keys.local import LocalKey
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import Cost
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import OwnerAct, Store, StoredSecret
from jfe_cni.ratelock.walliam.accounts import Quota, accounts
from jfe_cni.ratelock.walliam.cipher import Kept, decrypt
from jfe_cni.ratelock.walliam.wall import Wall
from tests.ratelock.attempts import eventually
from tests.ratelock.cloud import REGION, Cloud
from tests.ratelock.hands import Hands

OWNER = Caller("owner", "owner", None, ("*",))
BOB = Caller("bob", "caller", None, ("*",))
CHEAP = Cost(8, 1, 1)
SEALING = Sealing(LocalKey(bytes(32)))
# What the service's own role may, and no more.
POLICY = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": [
    "iam:GetAccountSummary", "iam:CreateUser", "iam:CreateAccessKey", "iam:ListAccessKeys", "iam:DeleteAccessKey",
    "iam:DeleteUser"]}]}"""


@pytest.fixture
def iam(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The account's, with all rights; from here on the service has a key of its own, and everybody is asked for one."""
    all_rights = boto3.client("iam", region_name=REGION, endpoint_url=aws.endpoint)
    for user, policy in (("operator", POLICY.replace("iam:GetAccountSummary", "*")), ("service", POLICY)):
        all_rights.create_user(UserName=user)
        all_rights.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=policy)
    operator, service = (all_rights.create_access_key(UserName=name)["AccessKey"] for name in ("operator", "service"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", service["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", service["SecretAccessKey"])
    aws.authenticate_from_now_on()
    yield boto3.client(
        "iam",
        region_name=REGION,
        endpoint_url=aws.endpoint,
        aws_access_key_id=operator["AccessKeyId"],
        aws_secret_access_key=operator["SecretAccessKey"],
    )
    aws.authenticate_nobody()


@pytest.fixture
async def service(iam: Any, aws: Cloud, sqlite_store: Store) -> AsyncIterator[Ratelock]:
    hashing = Hashing(2, 8)
    wall = Wall(accounts(REGION, aws.endpoint), hashing)
    yield await Ratelock.open(sqlite_store, SEALING, hashing, cost=CHEAP, elsewhere=wall)
    hashing.close()


@pytest.fixture
async def sqlite_store(sqlite_url: str, hands: Hands) -> AsyncIterator[Store]:
    from jfe_cni.ratelock.stores import open_store

    opened = await open_store(sqlite_url, hands.clock())
    yield opened
    await opened.close()


def users(iam: Any) -> list[str]:
    return [user["UserName"] for user in iam.list_users(PathPrefix="/ratelock/")["Users"]]


async def opened(store: Store, name: str) -> Kept:
    stored = await store.secret(name)
    assert stored is not None
    assert stored.kind == "walliam"
    return Kept.decode(await SEALING.open(stored.sealed, Label(name, stored.kind, stored.version)))


async def test_a_password_is_right_where_the_cloud_lets_it_in(service: Ratelock) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    assert await service.check(BOB, "alice", b"correct horse")
    assert not await service.check(BOB, "alice", b"battery staple")
    assert not await service.check(BOB, "nobody", b"correct horse")


async def test_the_budget_holds_before_the_cloud_is_asked(service: Ratelock, aws: Cloud) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    assert [await service.check(BOB, "alice", b"correct horse") for _ in range(3)] == [True] * 3
    with pytest.raises(BudgetSpent):
        await service.check(BOB, "alice", b"correct horse")


async def test_nobody_but_the_cloud_can_tell(service: Ratelock, iam: Any, aws: Cloud, sqlite_store: Store) -> None:
    """All that the service has, opened: the right password and wrong ones make keys that only a log-in tells apart."""
    await service.add_password(OWNER, "alice", b"correct horse")
    kept = await opened(sqlite_store, "alice")
    pepper = service._keys.pepper
    clouded = accounts(REGION, aws.endpoint)
    keys = {guess: decrypt(kept, guess, pepper) for guess in (b"correct horse", b"battery staple", b"123456")}
    assert len({len(key) for key in keys.values()}) == 1
    assert [clouded.log_in(kept.access_key_id, key) for key in keys.values()] == [True, False, False]
    assert iam.list_user_policies(UserName=kept.user)["PolicyNames"] == []
    assert iam.list_attached_user_policies(UserName=kept.user)["AttachedPolicies"] == []


async def test_what_the_user_may_do_in_the_cloud_is_nothing(service: Ratelock, aws: Cloud, sqlite_store: Store) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    kept = await opened(sqlite_store, "alice")
    thief = boto3.client(
        "iam",
        region_name=REGION,
        endpoint_url=aws.endpoint,
        aws_access_key_id=kept.access_key_id,
        aws_secret_access_key=decrypt(kept, b"correct horse", service._keys.pepper),
    )
    with pytest.raises(thief.exceptions.ClientError, match="AccessDenied"):
        thief.list_users()


async def test_a_user_that_is_removed_or_replaced_is_gone_from_the_cloud(service: Ratelock, iam: Any) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    (former,) = users(iam)
    await service.add_password(OWNER, "alice", b"battery staple", replace=True)
    assert len(users(iam)) == 1
    assert former not in users(iam)
    assert await service.check(BOB, "alice", b"battery staple")
    await service.remove(OWNER, "alice")
    assert users(iam) == []
    assert not await service.check(BOB, "alice", b"battery staple")
    with pytest.raises(UnknownSecret):
        await service.remove(OWNER, "alice")


async def test_a_name_that_there_is_makes_no_second_user(service: Ratelock, iam: Any) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    with pytest.raises(ConflictError):
        await service.add_password(OWNER, "alice", b"battery staple")
    with pytest.raises(ConflictError):
        await service.add_password(OWNER, "carol", b"battery staple", replace=True)
    with pytest.raises(RequestError, match="empty"):
        await service.add_password(OWNER, "carol", b"")
    assert len(users(iam)) == 1


async def test_a_user_whose_key_can_not_be_made_does_not_stay(service: Ratelock, iam: Any) -> None:
    policy = POLICY.replace('"iam:CreateAccessKey", ', "")
    iam.put_user_policy(UserName="service", PolicyName="own", PolicyDocument=policy)
    with pytest.raises(StoreError, match="the cloud refuses CreateAccessKey: AccessDenied"):
        await service.add_password(OWNER, "alice", b"correct horse")
    assert users(iam) == []


@pytest.mark.parametrize("action", ["CreateUser", "CreateAccessKey", "GetCallerIdentity"])
async def test_a_user_whose_adding_is_cancelled_does_not_stay(
    service: Ratelock, iam: Any, aws: Cloud, action: str
) -> None:
    with aws.holding(action):
        adding = asyncio.create_task(service.add_password(OWNER, "alice", b"correct horse"))
        if action != "CreateUser":
            await eventually(lambda: there_are(users(iam)))
        else:
            await asyncio.sleep(0.3)
        adding.cancel()
        # It is made all the same, by a thread that knows nothing of it.
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert users(iam) == []
    await service.add_password(OWNER, "alice", b"correct horse")
    assert await service.check(BOB, "alice", b"correct horse")


async def there_are(found: list[str]) -> bool:
    return bool(found)


class Doubtful:
    """The real store, whose answer to what is put is lost: `before` or after it is done."""

    def __init__(self, store: Store, *, before: bool) -> None:
        self._store = store
        self._before = before

    async def put_secret(self, secret: StoredSecret, act: OwnerAct, *, expected_version: int | None) -> None:
        if not self._before or secret.kind != "walliam":
            await self._store.put_secret(secret, act, expected_version=expected_version)
        if secret.kind == "walliam":
            raise StoreError("the store has gone", remedy="try again")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("before", [True, False])
async def test_a_user_stays_only_if_the_store_has_it_though_its_answer_was_lost(
    iam: Any, sqlite_store: Store, aws: Cloud, before: bool
) -> None:
    hashing = Hashing(1, 4)
    wall = Wall(accounts(REGION, aws.endpoint), hashing)
    doubtful: Any = Doubtful(sqlite_store, before=before)
    service = await Ratelock.open(doubtful, SEALING, hashing, cost=CHEAP, elsewhere=wall)
    with pytest.raises(StoreError, match="the store has gone"):
        await service.add_password(OWNER, "alice", b"correct horse")
    assert len(users(iam)) == (0 if before else 1)
    assert await service.check(BOB, "alice", b"correct horse") is not before
    hashing.close()


async def test_a_user_that_can_not_be_removed_is_named_in_the_log(
    service: Ratelock, iam: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await service.add_password(OWNER, "alice", b"correct horse")
    (former,) = users(iam)
    policy = POLICY.replace("iam:DeleteUser", "iam:GetUser")
    iam.put_user_policy(UserName="service", PolicyName="own", PolicyDocument=policy)
    await service.add_password(OWNER, "alice", b"battery staple", replace=True)
    assert f"the cloud's user {former} belongs to no secret, and is there perhaps: delete it" in caplog.text
    assert await service.check(BOB, "alice", b"battery staple")
    # Those that there are besides are told from it by the list.
    (listed,) = await service.list_secrets(OWNER)
    assert {former, listed.public} == set(users(iam))


async def test_a_cost_that_has_risen_holds_for_wrong_passwords_at_once_and_for_the_right_one_from_then_on(
    iam: Any, sqlite_store: Store, aws: Cloud
) -> None:
    hashing = Hashing(1, 4)
    wall = Wall(accounts(REGION, aws.endpoint), hashing)
    cheap = await Ratelock.open(sqlite_store, SEALING, hashing, cost=CHEAP, elsewhere=wall)
    await cheap.add_password(OWNER, "alice", b"correct horse")
    dear = Cost(64, 3, 1)
    service = await Ratelock.open(sqlite_store, SEALING, hashing, cost=dear, elsewhere=wall)
    assert not await service.check(BOB, "alice", b"battery staple")
    assert (await opened(sqlite_store, "alice")).cost == CHEAP
    assert await service.check(BOB, "alice", b"correct horse")
    assert (await opened(sqlite_store, "alice")).cost == dear
    assert await service.check(BOB, "alice", b"correct horse")
    assert len(users(iam)) == 1
    hashing.close()


async def test_the_quota_is_said_before_it_is_hit_and_when_it_is(
    service: Ratelock, iam: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from moto.iam.models import iam_backends

    await service.add_password(OWNER, "alice", b"correct horse")
    assert caplog.record_tuples == [each for each in caplog.record_tuples if each[1] < logging.WARNING]
    # Of the account's: the operator, the service, alice, and one more.
    account = iam_backends["123456789012"]["aws"].account_summary
    most, account._users_quota = account._users_quota, 4
    try:
        await service.add_password(OWNER, "carol", b"correct horse")
        said = [text for name, level, text in caplog.record_tuples if name == "ratelock" and level == logging.WARNING]
        assert said == ["the cloud's account has 4 of the 4 users that it may have"]
        with pytest.raises(RequestError, match="4 of the 4 users that it may have: remove users"):
            await service.add_password(OWNER, "dave", b"correct horse")
    finally:
        account._users_quota = most
    assert len(users(iam)) == 2


def test_a_quota_is_near_from_nine_tenths_on() -> None:
    assert [Quota(users, 5_000).is_near for users in (4_499, 4_500, 5_000)] == [False, True, True]
    assert [Quota(users, 5_000).is_spent for users in (4_999, 5_000)] == [False, True]


async def test_a_cloud_that_is_away_is_no_wrong_password(iam: Any, sqlite_store: Store, aws: Cloud) -> None:
    hashing = Hashing(1, 4)
    there = await Ratelock.open(
        sqlite_store, SEALING, hashing, cost=CHEAP, elsewhere=Wall(accounts(REGION, aws.endpoint), hashing)
    )
    await there.add_password(OWNER, "alice", b"correct horse")
    away = Wall(accounts(REGION, "http://127.0.0.1:9"), hashing)
    for name in ("alice", "nobody"):
        service = await Ratelock.open(sqlite_store, SEALING, hashing, cost=CHEAP, elsewhere=away)
        with pytest.raises(StoreError, match="the cloud can't be asked"):
            await service.check(BOB, name, b"correct horse")
    forgotten = await Ratelock.open(sqlite_store, SEALING, hashing, cost=CHEAP)
    with pytest.raises(SealingError, match="checked by a cloud that was not named"):
        await forgotten.check(BOB, "alice", b"correct horse")
    hashing.close()
