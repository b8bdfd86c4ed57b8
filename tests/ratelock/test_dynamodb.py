"""What a table of DynamoDB adds to what every store does: optimistic writes, and time from whole seconds."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from jfe_cni.errors import HostError, RequestError, StoreError
from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.log import verify
from jfe_cni.ratelock.store import Admitted, OwnerAct, StoredSecret
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.attempts import OWNER, admitted, attempt, budget, seconds_until_room, secret
from tests.ratelock.cloud import REGION, Cloud
from tests.ratelock.hands import Hands
from tests.ratelock.replica import SECRETS, Answer
from tests.ratelock.windows import assert_never_one_more
from tests.stage.deadline import eventually

COUNT = 20
CALLERS = 32
BUDGETS = {
    secret("alice"): budget((14, 2)),
    Meter("class", "staff"): budget((COUNT, 2), (12, 1)),
    Meter("all"): budget((COUNT - 1, 1.9)),
    **{Meter("caller", f"caller-{number}"): budget((1, 2)) for number in range(4)},
}
# Seconds by which each replica's own clock is ahead of the first's: a later one is the former's, that has jumped.
LEADS = (86_400, 0, -3_600, 7_200, 1, -86_400)
FOLDER = Path(__file__).parents[2]


def client(cloud: Cloud) -> Any:
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=cloud.endpoint)


async def test_exactly_so_many_of_sixty_four_callers_of_two_replicas_that_are_killed(
    dynamodb_url: str, tmp_path: Path
) -> None:
    store = await open_store(dynamodb_url)
    for name in SECRETS:
        await store.put_secret(StoredSecret(name, "record", "staff", b"sealed", None, 1), OWNER, expected_version=None)
    for meter, each in BUDGETS.items():
        await store.set_budget(meter, each, OWNER)
    chance = random.Random(7)
    said = tmp_path / "admitted"
    running = [start(dynamodb_url, said, lead) for lead in LEADS[:2]]
    try:
        for killed, lead in enumerate(LEADS[2:]):
            so_far = len(lines(said))
            await asyncio.to_thread(eventually, lambda: len(lines(said)) > so_far + COUNT, "some are admitted")  # noqa: B023
            await asyncio.sleep(chance.uniform(0, 2))
            kill(running.pop(killed % 2))
            running.insert(killed % 2, start(dynamodb_url, said, lead))
        so_far = len(lines(said))
        await asyncio.to_thread(eventually, lambda: len(lines(said)) > so_far + COUNT, "and none is lost for long")
    finally:
        for process in running:
            kill(process)
    seen = lines(said)
    numbers = [answer.number for answer in seen]
    assert len(set(numbers)) == len(numbers) > 2 * COUNT, "some are admitted, none twice"
    assert_never_one_more(seen, BUDGETS)
    counted = [entry.number async for entry in store.entries() if entry.event == "check"]
    assert set(numbers) <= set(counted)
    assert (await verify(store.entries())).broken is None
    await store.close()


def lines(said: Path) -> list[Answer]:
    """What was cut off by a kill was told to nobody."""
    whole = [line.split(" ") for line in said.read_text().rpartition("\n")[0].splitlines()]
    return [
        Answer(int(line[0]), int(line[1]), int(line[2]), line[3], line[4])
        for line in whole
        if len(line) == 5 and line[4] in SECRETS
    ]


def start(url: str, said: Path, lead: int) -> subprocess.Popen[bytes]:
    """A replica with half of the callers."""
    with said.open("ab") as out:
        # A line that a kill has cut off ends here.
        out.write(b"\n")
        words = [sys.executable, "-m", "tests.ratelock.dynamodb_replica", url, str(CALLERS), str(lead)]
        return subprocess.Popen(words, cwd=FOLDER, stdout=out, env=os.environ)


def kill(process: subprocess.Popen[bytes]) -> None:
    ended = process.poll()
    process.kill()
    process.wait()
    assert ended is None, "it runs until it is killed"


async def test_three_are_admitted_by_the_servers_own_time_and_a_time_is_told(dynamodb_url: str) -> None:
    store = await open_store(dynamodb_url)
    assert abs(await store.now() / 1e6 - time.time()) < 60
    assert await admitted(store, "alice", 3) == 3
    refused = await store.admit(attempt("alice"))
    assert 0 < seconds_until_room(refused) <= 10
    await store.close()


async def test_a_window_is_over_when_it_is_and_not_a_second_before(dynamodb_url: str) -> None:
    store = await open_store(dynamodb_url)
    await store.set_budget(secret("alice"), budget((1, 0.3)), OWNER)
    ended: list[tuple[float, float]] = []
    while len(ended) < 9:
        sent = time.monotonic()
        if isinstance(await store.admit(attempt("alice")), Admitted):
            ended.append((sent, time.monotonic()))
    for (sent, _), (_, answered) in itertools.pairwise(ended):
        assert answered - sent >= 0.3
    await store.close()


async def test_nothing_is_written_where_another_has_written_since(dynamodb_url: str, aws: Cloud, hands: Hands) -> None:
    """Two that read the same head: the second's transaction is cancelled, read anew and done."""
    one, other = await open_store(dynamodb_url, hands.clock()), await open_store(dynamodb_url, hands.clock())
    await asyncio.gather(
        *(store.append(OwnerAct("owner", "note", str(number))) for number in range(20) for store in (one, other))
    )
    found = [entry async for entry in one.entries()]
    assert [entry.number for entry in found] == list(range(1, 41))
    assert sorted(int(entry.subject) for entry in found) == sorted([*range(20), *range(20)])
    assert (await verify(other.entries())).broken is None
    await one.close()
    await other.close()


async def test_what_no_limit_looks_at_is_deleted(dynamodb_url: str, aws: Cloud, hands: Hands) -> None:
    store = await open_store(dynamodb_url, hands.clock())
    await store.set_budget(secret("alice"), budget((700, 1)), OWNER)
    for _ in range(2):
        hands.go_on(1)
        await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(700)))
    left = await _eventually_fewer(aws, 1_400)
    assert left >= 1_000
    assert await admitted(store, "alice", 1) == 0
    await store.close()


async def _eventually_fewer(cloud: Cloud, than: int) -> int:
    asked = {"#partition": "partition"}
    for _ in range(600):
        found = client(cloud).query(
            TableName="ratelock",
            KeyConditionExpression="#partition = :meter",
            ExpressionAttributeNames=asked,
            ExpressionAttributeValues={":meter": {"S": "meter#secret#alice"}},
            Select="COUNT",
        )
        if found["Count"] < than:
            return int(found["Count"])
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def test_a_guess_at_a_name_expires_and_a_secrets_count_does_not(
    dynamodb_url: str, aws: Cloud, hands: Hands
) -> None:
    store = await open_store(dynamodb_url, hands.clock())
    await store.set_budget(secret("alice"), budget((3, 10)), OWNER)
    await admitted(store, "alice", 1)
    await admitted(store, "guess", 1)
    await store.close()
    found = {
        name: client(aws).get_item(
            TableName="ratelock", Key={"partition": {"S": f"meter#secret#{name}"}, "sort": {"S": f"{1:020}"}}
        )["Item"]
        for name in ("alice", "guess")
    }
    assert "expires" in found["guess"]
    assert "expires" not in found["alice"]
    assert client(aws).describe_time_to_live(TableName="ratelock")["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires",
    }


async def test_what_dynamodb_let_expire_counts_as_the_next_that_is_left(
    dynamodb_url: str, aws: Cloud, hands: Hands
) -> None:
    store = await open_store(dynamodb_url, hands.clock())
    for _ in range(3):
        assert await admitted(store, "guess", 1) == 1
        hands.go_on(3)
    for number in (1, 2):
        key = {"partition": {"S": "meter#secret#guess"}, "sort": {"S": f"{number:020}"}}
        client(aws).delete_item(TableName="ratelock", Key=key)
    other = await open_store(dynamodb_url, hands.clock())
    refused = await other.admit(attempt("guess"))
    assert seconds_until_room(refused) == 7
    await store.close()
    await other.close()


async def test_a_table_that_is_not_there_is_said(aws: Cloud) -> None:
    with pytest.raises(StoreError, match=r"DynamoDB has no table nothing: make it, or add create=true"):
        await open_store(f"dynamodb://nothing?region={REGION}&endpoint={aws.endpoint}")


@pytest.mark.parametrize("url", ["dynamodb://", "dynamodb://t?region=a&tabel=x", "dynamodb://t?region=a&region=b"])
async def test_a_url_that_says_too_little_or_too_much_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="the store's URL has not what DynamoDB needs"):
        await open_store(url)


async def test_a_server_that_is_away_is_a_matter_of_trying_again(aws: Cloud) -> None:
    with pytest.raises(StoreError, match="DynamoDB can't be asked") as away:
        await open_store(f"dynamodb://t?region={REGION}&endpoint=http://127.0.0.1:9")
    assert away.value.temporary


async def test_a_newer_releases_table_is_left_alone(dynamodb_url: str, aws: Cloud, hands: Hands) -> None:
    store = await open_store(dynamodb_url, hands.clock())
    await store.close()
    client(aws).update_item(
        TableName="ratelock",
        Key={"partition": {"S": "head"}, "sort": {"S": "head"}},
        UpdateExpression="SET #layout = :newer",
        ExpressionAttributeNames={"#layout": "layout"},
        ExpressionAttributeValues={":newer": {"N": "2"}},
    )
    with pytest.raises(StoreError, match="the table is a newer release's"):
        await open_store(dynamodb_url, hands.clock())


async def test_it_is_ready_where_it_may_write_and_as_long_as_there_is_a_table(
    dynamodb_url: str, aws: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_store(dynamodb_url)).close()
    iam = boto3.client("iam", region_name=REGION, endpoint_url=aws.endpoint)
    iam.create_user(UserName="replica")
    key = iam.create_access_key(UserName="replica")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    may = {"Effect": "Allow", "Resource": "*", "Action": "dynamodb:*"}
    iam.put_user_policy(
        UserName="replica",
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
    )
    aws.authenticate_from_now_on()
    store = await open_store(dynamodb_url.replace("&create=true", ""))
    try:
        await store.ready()
        aws.authenticate_nobody()
        may["Action"] = "dynamodb:GetItem"
        iam.put_user_policy(
            UserName="replica",
            PolicyName="own",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
        )
        aws.authenticate_from_now_on()
        with pytest.raises(StoreError, match="DynamoDB refuses TransactWriteItems"):
            await store.ready()
        aws.authenticate_nobody()
        await store.ready()
        client(aws).delete_table(TableName="ratelock")
        with pytest.raises(StoreError, match="DynamoDB has no table ratelock"):
            await store.ready()
    finally:
        aws.authenticate_nobody()
        await store.close()


async def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(HostError, match=r"pip install 'jfe-cni\[aws\]'"):
        await open_store(f"dynamodb://t?region={REGION}")
