"""What the receiver keeps, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc.jwk import OKPKey

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.notices.keys import new_key
from jfe_cni.overflowd.notices.notice import End, new_nonce
from jfe_cni.overflowd.notices.signing import Refused, sign
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Taken
from jfe_cni.overflowd.receiver.kept import Pin
from jfe_cni.overflowd.receiver.pins import Pinning, Publisher
from jfe_cni.overflowd.receiver.store import Store, open_store
from tests.overflowd.test_notices import NOTICE

NOW = time.time_ns() // 1_000
DAY = 86_400 * 1_000_000
KEY = new_key()
CARRIER = Publisher("carrier.example")


@pytest.fixture
def url(state_url: str) -> str:
    return state_url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await open_store(url)
    await opened.pin("carrier.example", {KEY.thumbprint(): KEY}, NOW)
    yield opened
    await opened.close()


def taken(made: int = NOW, nonce: str = "", key: OKPKey = KEY) -> Taken:
    notice = replace(NOTICE, made=made, nonce=nonce or new_nonce())
    return Taken(notice, sign(notice, key).encode(), CARRIER, key.thumbprint())


async def test_what_is_kept_is_there_in_order_and_as_it_was_signed(store: Store) -> None:
    several = [taken() for _ in range(300)]
    assert await asyncio.gather(*(store.put(each, NOW + n) for n, each in enumerate(several))) == [None] * 300
    kept = await store.since(0)
    assert {each.notice.nonce for each in kept} == {each.notice.nonce for each in several}
    assert [each.number for each in kept] == sorted(each.number for each in kept)
    assert kept[0].notice == several[0].notice
    assert [each.number for each in await store.since(kept[-2].number)] == [kept[-1].number]
    assert [each.number for each in await store.newest(2)] == [kept[-1].number, kept[-2].number]


async def test_nothing_is_kept_twice_whichever_replica_took_it(store: Store, url: str) -> None:
    another = await open_store(url)
    try:
        one = taken()
        assert set(await asyncio.gather(store.put(one, NOW), another.put(one, NOW))) == {None, Stale.REPLAYED}
        other_copy = replace(one, notice=replace(one.notice, to=End.SOURCE))
        assert await another.put(other_copy, NOW) is None
        assert len(await store.since(0)) == 2
    finally:
        await another.close()


async def test_what_is_too_old_or_too_much_is_not_kept_and_is_no_news_again(store: Store) -> None:
    old, *many = taken(NOW), *(taken(NOW + n) for n in range(1, 11))
    for number, each in enumerate((old, *many)):
        await store.put(each, NOW - 40 * DAY if each is old else NOW + number)
    assert await store.prune(NOW, 30 * DAY, 1_000) == 1, "for its age"
    assert await store.prune(NOW, 30 * DAY, 4) == 6, "for its number"
    assert [each.notice for each in await store.since(0)] == [each.notice for each in many[6:]]

    believed = Believed()
    await believed.load(store)
    freshness = believed.freshness["carrier.example", KEY.thumbprint()]
    assert freshness.take(many[3].notice, NOW) is Stale.TOO_OLD
    assert freshness.take(taken(NOW + 20).notice, NOW) is None
    assert await store.put(many[8], NOW) is Stale.REPLAYED
    assert await store.put(many[3], NOW) is Stale.TOO_OLD, "nor by a replica that does not know of it"


async def test_after_a_restart_what_was_taken_is_a_replay(store: Store, url: str) -> None:
    several = [taken() for _ in range(5)]
    for each in several:
        await store.put(each, NOW)
    again = await open_store(url)
    try:
        believed = Believed()
        await believed.load(again)
        assert believed.keys["carrier.example"].keys() == {KEY.thumbprint()}
        assert [await again.put(each, NOW) for each in several] == [Stale.REPLAYED] * 5
    finally:
        await again.close()


async def test_what_is_shown_after_a_start_is_of_a_time_and_not_too_much(store: Store) -> None:
    for number in range(6):
        await store.put(taken(), NOW + number * DAY)
    numbers = [each.number for each in await store.since(0)]
    assert await store.before(NOW - DAY, 100) == 0
    assert await store.before(NOW + 2 * DAY, 100) == numbers[1]
    assert await store.before(NOW + 9 * DAY, 100) == numbers[5]
    assert await store.before(NOW - DAY, 2) == numbers[3]


async def test_no_more_reporters_are_believed_than_may_be() -> None:
    believed = Believed(most=2)
    for domain in ("a.example", "b.example"):
        assert believed.has_room(domain)
        believed.put(domain, {KEY.thumbprint(): Pin(KEY, NOW, 0)})
    assert not believed.has_room("c.example")
    assert believed.has_room("a.example"), "it may rotate its keys"


async def test_keys_are_pinned_rotated_and_held_on_to(store: Store) -> None:
    second, stranger = new_key(), new_key()
    both = {KEY.thumbprint(): KEY, second.thumbprint(): second}
    assert (await store.pin("carrier.example", both, NOW))[0] is Pinning.ROTATED
    assert (await store.pin("carrier.example", {second.thumbprint(): second}, NOW))[0] is Pinning.ROTATED
    outcome, believed = await store.pin("carrier.example", {stranger.thumbprint(): stranger}, NOW + 5)
    assert (outcome, set(believed)) == (Pinning.CHANGED, {second.thumbprint()})
    assert (await store.pins())["carrier.example"].keys() == {second.thumbprint()}
    (change,) = await store.changes()
    assert (change.domain, change.keys, change.since) == ("carrier.example", (stranger.thumbprint(),), NOW + 5)

    assert await store.unpin("carrier.example"), "a person says that it is right"
    assert await store.changes() == []
    assert (await store.pin("carrier.example", {stranger.thumbprint(): stranger}, NOW))[0] is Pinning.FIRST


async def test_what_a_key_has_signed_that_another_replica_believes_no_more_is_not_kept(store: Store) -> None:
    assert await store.unpin("carrier.example")
    assert await store.put(taken(), NOW) is Refused.UNKNOWN_KEY
    assert await store.since(0) == []


async def test_a_warning_is_over_when_the_former_key_is_published_again(store: Store) -> None:
    stranger = new_key()
    await store.pin("carrier.example", {stranger.thumbprint(): stranger}, NOW)
    assert len(await store.changes()) == 1
    assert (await store.pin("carrier.example", {KEY.thumbprint(): KEY}, NOW))[0] is Pinning.SAME
    assert await store.changes() == []


async def test_a_flood_is_announced_by_one(store: Store, url: str) -> None:
    another = await open_store(url)
    try:
        assert sorted(await asyncio.gather(store.announce("a", NOW), another.announce("a", NOW))) == [False, True]
        assert await another.announce("b", NOW)
    finally:
        await another.close()


async def test_replicas_that_start_together_make_the_tables_once(url: str) -> None:
    for each in await asyncio.gather(*(open_store(url) for _ in range(4))):
        await each.ready()
        await each.close()


async def test_sqlites_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "received.db"
    await (await open_store(f"sqlite:///{path}")).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_store_of_no_known_kind_is_refused_without_its_password() -> None:
    with pytest.raises(RequestError) as refused:
        await open_store("mysql://user:secret@host/database")
    assert "secret" not in str(refused.value)
