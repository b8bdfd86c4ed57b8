"""What else is asked of every store: secrets, tokens, idempotency keys, the log, time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from jfe_cni.errors import ConflictError, RequestError
from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.log import GENESIS, verify
from jfe_cni.ratelock.names import check_name
from jfe_cni.ratelock.store import Admitted, KeyReused, OwnerAct, Spent, Store, StoredSecret, StoredToken, Verdict
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.attempts import admitted, attempt, budget, eventually, secret
from tests.ratelock.hands import SECOND, Hands

ADD = OwnerAct("owner", "secret added", "alice")
ALICE = StoredSecret("alice", "password", "staff", b"\x00sealed\xff", None, 1)
TOKEN = StoredToken(b"\x01" * 32, "bob", "caller", frozenset({"check", "sign"}), ("alice", "team/*"), 99 * SECOND)

HOSTILE = [
    "'; DROP TABLE log; --",
    '" OR 1=1 --',
    "%(name)s %s ? :name {0} $1",
    "a\x00b",
    "\ud800 alone, \ud83d\ude00 apart, 😀 together",
    "back\\slash \\u0041 \n\r\t\x1b[2J",
    "é\u202e\ufeff",
    "",
]


async def test_a_secret_is_kept_changed_and_removed(store: Store) -> None:
    await store.put_secret(ALICE, ADD, expected_version=None)
    assert await store.secret("alice") == ALICE
    changed = StoredSecret("alice", "password", "", b"other", "public", 2)
    await store.put_secret(changed, ADD, expected_version=1)
    assert await store.secrets() == [changed]
    assert await store.remove_secret("alice", ADD)
    assert not await store.remove_secret("alice", ADD)
    assert await store.secret("alice") is None


async def test_a_secret_of_another_version_is_not_touched(store: Store) -> None:
    await store.put_secret(ALICE, ADD, expected_version=None)
    for expected in (None, 0, 2):
        with pytest.raises(ConflictError):
            await store.put_secret(StoredSecret("alice", "key", "", b"x", None, 2), ADD, expected_version=expected)
    assert await store.secret("alice") == ALICE
    assert len([entry async for entry in store.entries()]) == 1


async def test_a_new_sealing_takes_place_once(store: Store) -> None:
    await store.put_secret(ALICE, ADD, expected_version=None)
    took = await asyncio.gather(*(store.reseal("alice", b"%d" % n, expected_version=1, changed=1) for n in range(9)))
    assert sum(took) == 1
    found = await store.secret("alice")
    assert found is not None
    assert (found.sealed, found.version) == (b"%d" % took.index(True), 2)
    assert not await store.reseal("nobody", b"", expected_version=1, changed=1)


async def test_what_was_removed_and_added_again_is_not_sealed_over(store: Store) -> None:
    """By who has read it before: its versions are the same."""
    await store.put_secret(ALICE, ADD, expected_version=None)
    read = await store.secret("alice")
    assert read is not None
    await store.remove_secret("alice", ADD)
    again = replace(ALICE, sealed=b"another password")
    await store.put_secret(again, ADD, expected_version=None)
    assert not await store.reseal("alice", read.sealed, expected_version=read.version, changed=read.changed)
    assert await store.secret("alice") == again


async def test_a_token_is_kept_and_removed(store: Store) -> None:
    await store.put_token(TOKEN, ADD)
    assert await store.token(TOKEN.digest) == TOKEN
    assert await store.token(b"\x02" * 32) is None
    assert await store.remove_token(TOKEN.digest, ADD)
    assert not await store.remove_token(TOKEN.digest, ADD)
    assert await store.token(TOKEN.digest) is None


async def test_a_request_that_is_repeated_is_counted_once(store: Store, hands: Hands) -> None:
    first = await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    assert isinstance(first, Admitted)
    assert not first.repeated
    for _ in range(9):
        assert await store.admit(attempt("alice", "bob", "key-1", b"digest")) == Admitted(first.number, repeated=True)
    assert await admitted(store, "alice", 9) == 2
    hands.go_on(599)
    assert await store.admit(attempt("alice", "bob", "key-1", b"digest")) == Admitted(first.number, repeated=True)


async def test_a_key_stands_for_one_request_of_one_caller(store: Store) -> None:
    await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    assert await store.admit(attempt("alice", "bob", "key-1", b"other")) == KeyReused()
    verdict = await store.admit(attempt("alice", "carol", "key-1", b"other"))
    assert isinstance(verdict, Admitted)
    assert not verdict.repeated


async def test_of_many_that_repeat_each_other_at_once_one_is_counted(store: Store) -> None:
    asked = [attempt("alice", "bob", f"key-{n % 3}", b"digest") for n in range(300)]
    verdicts = await asyncio.gather(*(store.admit(each) for each in asked))
    assert all(isinstance(verdict, Admitted) for verdict in verdicts)
    assert sum(isinstance(verdict, Admitted) and not verdict.repeated for verdict in verdicts) == 3
    assert await admitted(store, "alice", 1) == 0


async def test_what_was_refused_is_decided_anew(store: Store, hands: Hands) -> None:
    await admitted(store, "alice", 3)
    assert isinstance(await store.admit(attempt("alice", "bob", "key-1", b"digest")), Spent)
    hands.go_on(10)
    verdict = await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    assert isinstance(verdict, Admitted)
    assert not verdict.repeated


async def test_a_key_stands_for_nothing_once_an_owner_has_changed_the_secret(store: Store, hands: Hands) -> None:
    """Or one counted attempt would read every later content of a record."""

    async def ask() -> Verdict:
        return await store.admit(attempt("alice", "bob", "key-1", b"digest"))

    def entry(verdict: Verdict) -> int:
        assert isinstance(verdict, Admitted)
        return verdict.number

    before = await ask()
    await store.put_secret(ALICE, ADD, expected_version=None)
    added = await ask()
    assert await store.reseal("alice", b"anew", expected_version=1, changed=2)
    assert await ask() == Admitted(entry(added), repeated=True), "a rotation of keys is no change"
    await store.put_secret(replace(ALICE, sealed=b"other", version=3), ADD, expected_version=2)
    changed = await ask()
    assert entry(before) < entry(added) < entry(changed)
    assert await ask() == Admitted(entry(changed), repeated=True)
    assert await store.remove_secret("alice", ADD)
    await store.put_secret(ALICE, ADD, expected_version=None)
    assert isinstance(await ask(), Spent), "each of the three was counted"


async def test_nor_where_another_request_comes_with_it_for_a_secret_that_has_not_changed(store: Store) -> None:
    """Together, in one transaction."""
    await store.put_secret(ALICE, ADD, expected_version=None)
    await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    await store.put_secret(replace(ALICE, sealed=b"other", version=2), ADD, expected_version=1)
    asked = [attempt("alice", "bob", "key-1", b"digest"), attempt("dave", "bob", "key-1", b"other")]
    first, second = await asyncio.gather(*(store.admit(each) for each in asked))
    assert isinstance(first, Admitted)
    assert not first.repeated
    assert second == KeyReused()


async def test_a_key_is_forgotten_after_ten_minutes(store: Store, hands: Hands) -> None:
    await store.admit(attempt("alice", "bob", "key-1", b"digest"))
    hands.go_on(600 + 1)
    verdict = await store.admit(attempt("alice", "bob", "key-1", b"other"))
    assert isinstance(verdict, Admitted)
    assert not verdict.repeated


async def test_what_is_done_is_in_the_log_in_one_chain(store: Store, hands: Hands) -> None:
    await store.put_secret(ALICE, ADD, expected_version=None)
    hands.go_on(1)
    verdict = await store.admit(attempt("alice"))
    last = await store.append(OwnerAct("owner", "note", "nothing", "at all"))
    found = [entry async for entry in store.entries()]
    assert [(each.number, each.actor, each.event, each.subject, each.detail) for each in found] == [
        (1, "owner", "secret added", "alice", ""),
        (2, "bob", "check", "alice", ""),
        (3, "owner", "note", "nothing", "at all"),
    ]
    assert verdict == Admitted(2)
    assert found[2] == last
    assert [found[0].previous, found[1].previous] == [GENESIS, found[0].hash]
    assert [each.at - found[0].at for each in found] == [0, SECOND, SECOND]
    assert [entry async for entry in store.entries(3)] == [last]
    assert (await verify(store.entries())).broken is None


async def test_a_log_of_several_pages_is_told_in_order(store: Store) -> None:
    names = [f"name-{n}" for n in range(256)]
    for _ in range(9):
        await asyncio.gather(*(store.admit(attempt(name)) for name in names))
    found = [entry async for entry in store.entries(7)]
    # Of each name three are admitted, and one refusal stands for what follows while time stands still.
    assert [entry.number for entry in found] == list(range(7, 4 * len(names) + 1))
    assert (await verify(store.entries())).broken is None


async def test_a_flood_of_refusals_is_few_entries_and_none_is_missing(store: Store, hands: Hands) -> None:
    await asyncio.gather(*(store.admit(attempt("alice")) for _ in range(1003)))
    assert await _log_has(store, entries=4)
    hands.go_on(1)
    await eventually(lambda: _log_has(store, entries=5))
    refusals = [entry async for entry in store.entries() if entry.event == "refused"]
    assert [json.loads(each.detail).get("more", 1) for each in refusals] == [1, 999]
    assert json.loads(refusals[0].detail) == {
        "operation": "check",
        "meter": ["secret", "alice"],
        "limit": [3, 10 * SECOND],
    }
    assert {(each.actor, each.subject) for each in refusals} == {("bob", "alice")}


async def _log_has(store: Store, entries: int) -> bool:
    return len([entry async for entry in store.entries()]) == entries


@pytest.mark.parametrize("text", HOSTILE)
async def test_any_text_is_kept_as_it_is(store: Store, text: str) -> None:
    entry = await store.append(OwnerAct(text, text, text, text))
    assert [each async for each in store.entries()] == [entry]
    assert entry.detail == text
    assert (await verify(store.entries())).broken is None
    kept = StoredSecret(text, "record", text, text.encode(errors="surrogatepass"), text, 1)
    await store.put_secret(kept, ADD, expected_version=None)
    assert await store.secret(text) == kept
    assert isinstance(await store.admit(attempt(text, text, text, b"digest")), Admitted)
    assert await store.admit(attempt(text, text, text, b"digest")) == Admitted(3, repeated=True)


@pytest.mark.parametrize("text", HOSTILE)
async def test_so_is_any_text_of_tokens_budgets_and_refusals(store: Store, text: str) -> None:
    """Names are checked before they come here; a store does not rely on it."""
    # JSON makes one of two surrogates that are a pair.
    pattern = text.replace("\ud83d\ude00", "")
    token = StoredToken(b"\x03" * 32, text, "caller", frozenset({"check"}), (pattern, "*"), 99 * SECOND)
    await store.put_token(token, OwnerAct(text, "token.make", text, text))
    assert await store.token(token.digest) == token
    meters = [Meter(kind, text) for kind in ("secret", "caller", "class")]
    for meter in meters:
        await store.set_budget(meter, budget((1, 10)), OwnerAct(text, "budget.set", text, text))
        found = await store.budget(meter)
        assert found is not None
        assert (found.meter, found.budget) == (meter, budget((1, 10)))
    assert {each.meter for each in await store.budgets()} == set(meters)
    assert [type(await store.admit(attempt(text, text))) for _ in range(3)] == [Admitted, Spent, Spent]
    assert isinstance(await store.admit(attempt("alice", text)), Spent)
    for meter in meters:
        await store.set_budget(meter, None, OwnerAct(text, "budget.remove", text, text))
    assert await store.remove_token(token.digest, OwnerAct(text, "token.revoke", text, text))
    assert (await verify(store.entries())).broken is None


@pytest.mark.parametrize("text", HOSTILE)
def test_and_no_name_is_made_of_it(text: str) -> None:
    with pytest.raises(RequestError):
        check_name(text, "a secret")


async def test_time_is_the_boots_own_whatever_the_wall_clock_says(store: Store, hands: Hands) -> None:
    before = await store.now()
    hands.wall += 86_400 * SECOND
    assert await store.now() == before
    hands.wall -= 30 * 86_400 * SECOND
    hands.boottime += 3 * SECOND
    assert await store.now() == before + 3 * SECOND


async def test_a_new_boot_with_a_wall_clock_set_back_gives_nothing_away(url: str, hands: Hands) -> None:
    store = await open_store(url, hands.clock())
    assert await admitted(store, "alice", 4) == 3
    before = await store.now()
    await store.close()
    hands.reboot("second boot", wall=hands.wall - 5 * SECOND)
    store = await open_store(url, hands.clock())
    assert await store.now() == before
    assert await admitted(store, "alice", 1) == 0
    hands.go_on(10)
    assert await admitted(store, "alice", 4) == 3
    await store.close()


async def test_what_was_counted_is_counted_after_the_store_was_closed(url: str, hands: Hands) -> None:
    for total in (3, 0):
        store = await open_store(url, hands.clock())
        assert await admitted(store, "alice", 5) == total
        await store.close()


async def test_two_replicas_have_one_truth(url: str, hands: Hands) -> None:
    one, other = await open_store(url, hands.clock()), await open_store(url, hands.clock())
    for store in (one, other):
        await store.admit(attempt("carol"))
    assert [await admitted(store, "alice", 1) for store in (one, other, one, other, one)] == [1, 1, 1, 0, 0]
    await one.set_budget(secret("alice"), None, ADD)
    await other.append(ADD)
    assert (await verify(one.entries())).broken is None
    await one.close()
    await other.close()
