"""What the table holds, to and from what it stands for. Pure.

One table, of two texts as its key, `partition` and `sort`:

    head                    head                  version of all, log's last number and hash, the store's time
    log                     number                an entry
    secret · token          =NAME · digest        one each
    budget                  meter                 what an owner has set
    meter#KIND#NAME         number                when that attempt was admitted
    meter#KIND#NAME         pruned                up to which number they are forgotten
    idempotency#CALLER      =KEY                  the request that it stands for
    refusal                 meter and caller      refusals that are not in the log yet

Numbers are padded, so that they sort; a key's text can't be empty, hence the `=`. What is kept as text is in Python's
escapes: DynamoDB's texts are UTF-8, which has no surrogates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jfe_cni.ratelock.budgets import Meter, Microseconds
from jfe_cni.ratelock.store import LogEntry, StoredBudget, StoredSecret, StoredToken
from jfe_cni.ratelock.stores.rows import budget_text, read_budget

Value = str | int | bytes
Item = dict[str, Value]
# As DynamoDB has it: {"name": {"S": "alice"}}.
Attributes = dict[str, dict[str, Any]]

LAYOUT = 1
PARTITION, SORT, EXPIRES = "partition", "sort", "expires"
_DIGITS = 20
PRUNED = "pruned"


def attributes(item: Mapping[str, Value | None]) -> Attributes:
    """What is None is left out."""
    return {name: attribute(value) for name, value in item.items() if value is not None}


def attribute(value: Value) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, int):
        return {"N": str(value)}
    return {"S": value.encode("unicode_escape").decode("ascii")}


def item(found: Attributes) -> Item:
    return {name: _value(*next(iter(each.items()))) for name, each in found.items()}


def _value(kind: str, value: Any) -> Value:
    match kind:
        case "B":
            return bytes(value)
        case "N":
            return int(value)
        case _:
            return str(value).encode("ascii").decode("unicode_escape")


def key(partition: str, sort: str) -> Item:
    return {PARTITION: partition, SORT: sort}


def padded(number: int) -> str:
    return f"{number:0{_DIGITS}}"


HEAD = key("head", "head")


def log_key(number: int) -> Item:
    return key("log", padded(number))


def secret_key(name: str) -> Item:
    return key("secret", f"={name}")


def token_key(digest: bytes) -> Item:
    return key("token", digest.hex())


def budget_key(meter: Meter) -> Item:
    return key("budget", f"{meter.kind}#{meter.name}")


def meter_partition(meter: Meter) -> str:
    return f"meter#{meter.kind}#{meter.name}"


def attempt_key(meter: Meter, number: int) -> Item:
    return key(meter_partition(meter), padded(number))


def pruned_key(meter: Meter) -> Item:
    return key(meter_partition(meter), PRUNED)


def idempotency_key(caller: str, given: str) -> Item:
    return key(f"idempotency#{caller}", f"={given}")


def refusal_key(kind: str, name: str, caller: str) -> Item:
    return key("refusal", json.dumps([kind, name, caller]))


def seconds(at: Microseconds) -> int:
    """As DynamoDB's time to live wants it."""
    return at // 1_000_000


def secret_item(secret: StoredSecret) -> dict[str, Value | None]:
    return {**secret_key(secret.name), **vars(secret)}


def stored_secret(found: Mapping[str, Any]) -> StoredSecret:
    return StoredSecret(
        found["name"],
        found["kind"],
        found["secret_class"],
        found["sealed"],
        found.get("public"),
        found["version"],
        found.get("changed", 0),
    )


def token_item(token: StoredToken) -> Item:
    return {
        **token_key(token.digest),
        "digest": token.digest,
        "identity": token.identity,
        "role": token.role,
        "operations": json.dumps(sorted(token.operations)),
        "secrets": json.dumps(token.secrets),
        # Not `expires`, at which DynamoDB itself deletes: whether a token holds is for the service to say.
        "expires_at": token.expires,
    }


def stored_token(found: Mapping[str, Any]) -> StoredToken:
    operations, secrets = frozenset(json.loads(found["operations"])), tuple(json.loads(found["secrets"]))
    return StoredToken(found["digest"], found["identity"], found["role"], operations, secrets, found["expires_at"])


def budget_item(stored: StoredBudget) -> dict[str, Value | None]:
    return {
        **budget_key(stored.meter),
        "kind": stored.meter.kind,
        "name": stored.meter.name,
        "budget": budget_text(stored.budget),
        "pending": budget_text(stored.pending),
        "pending_from": stored.pending_from,
    }


def stored_budget(found: Mapping[str, Any]) -> StoredBudget:
    budget = read_budget(found["budget"])
    assert budget is not None
    meter = Meter(found["kind"], found["name"])
    return StoredBudget(meter, budget, read_budget(found.get("pending")), found.get("pending_from"))


def log_item(entry: LogEntry) -> Item:
    return {**log_key(entry.number), **vars(entry)}


def log_entry(found: Mapping[str, Any]) -> LogEntry:
    return LogEntry(
        found["number"],
        found["at"],
        found["actor"],
        found["event"],
        found["subject"],
        found["detail"],
        found["previous"],
        found["hash"],
    )
