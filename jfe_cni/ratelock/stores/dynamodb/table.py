"""The calls of DynamoDB that the store makes, by boto3. Every one blocks: they are made in threads.

Reads are strongly consistent. No expression is put together of anything: each is a constant, and names and values go
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from jfe_cni.errors import HostError, RequestError, StoreError
from jfe_cni.ratelock.stores.dynamodb.dates import ServerDates, parsed
from jfe_cni.ratelock.stores.dynamodb.items import EXPIRES, PARTITION, SORT, Item, Value, attribute, attributes, item

Written = Literal["done", "not done", "not known"]
# One item of TransactWriteItems.
Write = dict[str, dict[str, Any]]

# TransactWriteItems and BatchGetItem take a hundred, BatchWriteItem 25 (DynamoDB API reference).
MOST_WRITES = 100
_MOST_KEYS = 100
_MOST_DELETES = 25

# Of what another replica did meanwhile, or what passes by itself (API reference, TransactionCanceledException).
_PASSING_REASONS = frozenset(
    {"None", "ConditionalCheckFailed", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
)
_THROTTLED = frozenset({"ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"})

_FIRST_TO_LAST = "#partition = :partition AND #sort BETWEEN :first AND :last"
_WHOLE = "#partition = :partition"
_KEY_NAMES = {"#partition": PARTITION, "#sort": SORT}
_NEW = "attribute_not_exists(#partition)"
_SAME_VERSION = "#version = :version"

# Seconds, and tries. boto3's own are a minute each: an attempt that was counted would be answered to nobody.
_CONNECT_TIMEOUT = 2
_READ_TIMEOUT = 5
_ATTEMPTS = 3


def client(region: str | None, endpoint: str | None, connections: int) -> Any:
    """boto3's, with the credentials that it finds. Raises HostError: it is not installed; RequestError: no region."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise HostError("DynamoDB needs boto3", remedy="pip install 'jfe-cni[aws]'") from error

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=connections,
    )
    try:
        return boto3.client("dynamodb", region_name=region, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise RequestError(
            f"DynamoDB can't be asked: {error}", remedy="give region, and endpoint where it is not AWS's own"
        ) from error


class Table:
    """`dates`: learns from every answer what time it is there."""

    def __init__(self, client: Any, name: str, dates: ServerDates) -> None:
        self._client = client
        self._name = name
        self.dates = dates

    def close(self) -> None:
        self._client.close()

    def get(self, key: Item) -> Item | None:
        answer = self._call(self._client.get_item, TableName=self._name, Key=attributes(key), ConsistentRead=True)
        return item(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Item]) -> Iterator[Item]:
        """Those that there are, in no order. `keys`: all different."""
        wanted = [attributes(key) for key in keys]
        while wanted:
            some, wanted = wanted[:_MOST_KEYS], wanted[_MOST_KEYS:]
            asked = {self._name: {"Keys": some, "ConsistentRead": True}}
            answer = self._call(self._client.batch_get_item, RequestItems=asked)
            yield from (item(found) for found in answer["Responses"].get(self._name, ()))
            wanted += answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])

    def last(self, partition: str, count: int) -> Sequence[Item]:
        """Up to `count`, the last first."""
        answer = self._call(
            self._client.query,
            TableName=self._name,
            ConsistentRead=True,
            KeyConditionExpression=_WHOLE,
            ExpressionAttributeNames={"#partition": PARTITION},
            ExpressionAttributeValues={":partition": attribute(partition)},
            ScanIndexForward=False,
            Limit=count,
        )
        return [item(found) for found in answer["Items"]]

    def between(self, partition: str, first: str, last: str, count: int | None = None) -> Iterator[Item]:
        """In order, `first` and `last` included, the first `count` of them."""
        more: Mapping[str, Any] = {} if count is None else {"Limit": count}
        while True:
            answer = self._call(
                self._client.query,
                TableName=self._name,
                ConsistentRead=True,
                KeyConditionExpression=_FIRST_TO_LAST,
                ExpressionAttributeNames=_KEY_NAMES,
                ExpressionAttributeValues={
                    ":partition": attribute(partition),
                    ":first": attribute(first),
                    ":last": attribute(last),
                },
                **more,
            )
            yield from (item(found) for found in answer["Items"])
            if count is not None or "LastEvaluatedKey" not in answer:
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def all(self, partition: str) -> Iterator[Item]:
        """In order."""
        more: Mapping[str, Any] = {}
        while True:
            answer = self._call(
                self._client.query,
                TableName=self._name,
                ConsistentRead=True,
                KeyConditionExpression=_WHOLE,
                ExpressionAttributeNames={"#partition": PARTITION},
                ExpressionAttributeValues={":partition": attribute(partition)},
                **more,
            )
            yield from (item(found) for found in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def put(self, what: Mapping[str, Value | None]) -> Write:
        return {"Put": {"TableName": self._name, "Item": attributes(what)}}

    def put_new(self, what: Mapping[str, Value | None]) -> Write:
        """Nothing is written where there is one already."""
        named = {"ConditionExpression": _NEW, "ExpressionAttributeNames": {"#partition": PARTITION}}
        return {"Put": {"TableName": self._name, "Item": attributes(what), **named}}

    def put_version(self, what: Mapping[str, Value | None], former: int) -> Write:
        """Nothing is written where the item that is there has another `version`."""
        named = {
            "ConditionExpression": _SAME_VERSION,
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":version": attribute(former)},
        }
        return {"Put": {"TableName": self._name, "Item": attributes(what), **named}}

    def delete(self, key: Item) -> Write:
        return {"Delete": {"TableName": self._name, "Key": attributes(key)}}

    def transact(self, writes: Sequence[Write]) -> Written:
        """All or none. boto3 gives each call a token of its own, so that its own retries do it once. Raises StoreError
        where it can't be done."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._observed(self._client.transact_write_items, TransactItems=writes)
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            reasons = {each.get("Code", "None") for each in error.response.get("CancellationReasons", ())}
            if code == "TransactionCanceledException" and reasons <= _PASSING_REASONS:
                return "not done"
            if code in _THROTTLED:
                return "not done"
            if code == "TransactionInProgressException" or _is_server_fault(error):
                return "not known"
            raise _refused(error) from error
        except BotoCoreError:
            return "not known"
        return "done"

    def delete_many(self, keys: Iterable[Item]) -> None:
        """One by one: for what nobody reads any more."""
        wanted = [{"DeleteRequest": {"Key": attributes(key)}} for key in keys]
        while wanted:
            some, wanted = wanted[:_MOST_DELETES], wanted[_MOST_DELETES:]
            answer = self._call(self._client.batch_write_item, RequestItems={self._name: some})
            left = answer.get("UnprocessedItems", {}).get(self._name, [])
            if len(left) == len(some):
                # They are read by nobody: the next time will do.
                return
            wanted += left

    def create(self) -> None:
        """With DynamoDB's own expiry of what has `expires`, where there is no such table yet. Raises StoreError."""
        from botocore.exceptions import ClientError

        try:
            self._client.create_table(TableName=self._name, **DEFINITION)
        except ClientError as error:
            if error.response["Error"].get("Code") == "ResourceInUseException":
                return
            raise _refused(error) from error
        self._call(self._client.get_waiter("table_exists").wait, TableName=self._name)
        expiry = {"Enabled": True, "AttributeName": EXPIRES}
        self._call(self._client.update_time_to_live, TableName=self._name, TimeToLiveSpecification=expiry)

    def _call(self, call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        """Raises StoreError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._observed(call, **arguments)
        except ClientError as error:
            if error.response["Error"].get("Code") == "ResourceNotFoundException":
                raise StoreError(
                    f"DynamoDB has no table {self._name}", remedy="make it, or add create=true to the store's URL"
                ) from error
            raise _refused(error) from error
        except BotoCoreError as error:
            raise StoreError(
                f"DynamoDB can't be asked: {error}", remedy="see region, endpoint, network and role"
            ) from error

    def _observed(self, call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        sent = self.dates.local()
        answer: dict[str, Any] = call(**arguments) or {}
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date is not None:
            self.dates.observe(parsed(date), sent, self.dates.local())
        return answer

    def learn_time(self, spread: int, patience: float) -> None:
        """Asks until the time there is known to `spread` microseconds: a second at most, in which its Date changes.
        Raises StoreError: no answer has had a Date."""
        until = time.monotonic() + patience
        while True:
            self.get({PARTITION: "head", SORT: "head"})
            if not self.dates.known:
                raise StoreError("the answers of DynamoDB have no Date", remedy="see what stands at its endpoint")
            if self.dates.now()[1] <= spread or time.monotonic() >= until:
                return
            time.sleep(spread / 2e6)


DEFINITION: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": PARTITION, "AttributeType": "S"},
        {"AttributeName": SORT, "AttributeType": "S"},
    ],
    "KeySchema": [
        {"AttributeName": PARTITION, "KeyType": "HASH"},
        {"AttributeName": SORT, "KeyType": "RANGE"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}


def _is_server_fault(error: Any) -> bool:
    return bool(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500)


def _refused(error: Any) -> StoreError:
    code = error.response["Error"].get("Code", "an unknown error")
    return StoreError(
        f"DynamoDB refuses {error.operation_name}: {code}",
        remedy="see that the table is active, and that this role may use it",
    )
