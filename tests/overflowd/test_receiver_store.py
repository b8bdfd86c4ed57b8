"""What the receiver keeps, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from joserfc import jws
from joserfc.jwk import OKPKey
from sqlalchemy import Engine, make_url, text

from jfe_cni.databases.engines import migrator
from jfe_cni.errors import RequestError
from jfe_cni.overflowd.notices.keys import new_key
from jfe_cni.overflowd.notices.notice import End, new_nonce
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED, Refused, sign
from jfe_cni.overflowd.receiver import schema
from jfe_cni.overflowd.receiver.aggregation import QUIET
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Taken
from jfe_cni.overflowd.receiver.kept import Announcement, Pin
from jfe_cni.overflowd.receiver.pinned import COARSELY
from jfe_cni.overflowd.receiver.pins import MOST_OF_ONE, Pinning, Publisher
from jfe_cni.overflowd.receiver.retention import excess
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.receiver.store import Store, open_store
from jfe_cni.overflowd.receiver.tables import TABLES
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


async def test_no_more_reporters_are_believed_than_may_be_and_there_is_room_for_another() -> None:
    believed = Believed(most=2)
    for at, domain in enumerate(("a.example", "b.example")):
        believed.put(domain, {KEY.thumbprint(): Pin(KEY, NOW, 0, NOW + at)})
    believed.use("a.example", NOW + 5)
    believed.put("c.example", {KEY.thumbprint(): Pin(KEY, NOW, 0, NOW + 6)})
    assert believed.keys.keys() == {"a.example", "c.example"}, "the one that was used longest ago has gone"
    assert believed.freshness.keys() == {("a.example", KEY.thumbprint()), ("c.example", KEY.thumbprint())}
    believed.put("a.example", {})
    assert believed.keys.keys() == {"a.example", "c.example"}, "it may rotate its keys"


async def test_names_of_one_domain_drive_out_each_other_and_nobody_else(store: Store, url: str) -> None:
    stranger = new_key()
    keys = {stranger.thumbprint(): stranger}
    for number in range(MOST_OF_ONE + 4):
        assert (await store.pin(f"n{number}.evil.example", keys, NOW + 1 + number))[0] is Pinning.FIRST
    pins = await store.pins()
    assert pins.keys() == {"carrier.example", *(f"n{number}.evil.example" for number in range(4, MOST_OF_ONE + 4))}
    again = await open_store(url)
    try:
        believed = Believed()
        await believed.load(again)
        assert believed.keys.keys() == pins.keys()
    finally:
        await again.close()


async def test_a_pin_that_is_used_stays_and_is_not_written_for_each_notice(store: Store) -> None:
    async def used() -> int:
        return (await store.pins())["carrier.example"][KEY.thumbprint()].used

    assert await used() == NOW
    await store.put(taken(), NOW + COARSELY)
    assert await used() == NOW
    await store.put(taken(), NOW + COARSELY + 1)
    assert await used() == NOW + COARSELY + 1


async def test_what_was_forgotten_of_a_key_is_no_news_when_it_is_pinned_again(store: Store) -> None:
    one, stays = taken(NOW), taken(NOW + 1)
    for each in (one, stays):
        assert await store.put(each, each.notice.made) is None
    assert await store.prune(NOW, 30 * DAY, 1) == 1
    assert await store.unpin("carrier.example")
    assert await store.prune(NOW + 60 * DAY, 30 * DAY, 1) == 1, "while it is pinned no more"
    await store.pin("carrier.example", {KEY.thumbprint(): KEY}, NOW)
    assert await store.put(one, NOW) is Stale.TOO_OLD
    assert await store.put(stays, NOW) is Stale.TOO_OLD
    assert await store.put(taken(NOW + 2), NOW) is None


async def test_what_goes_while_the_clock_is_wrong_is_no_news_when_it_is_right_again(store: Store) -> None:
    several = [taken(NOW + number) for number in range(3)]
    for each in several:
        assert await store.put(each, NOW) is None
    assert await store.prune(NOW + 400 * DAY, 30 * DAY, 1_000) == 3
    assert [await store.put(each, NOW) for each in several] == [Stale.TOO_OLD] * 3
    assert await store.put(taken(NOW + 3), NOW) is None


async def test_who_has_most_has_the_oldest_of_its_own_gone(store: Store) -> None:
    stranger = new_key()
    for number in range(30):
        domain = f"n{number % 3}.evil.example"
        await store.pin(domain, {stranger.thumbprint(): stranger}, NOW)
        notice = replace(NOTICE, made=NOW, nonce=new_nonce())
        flood = Taken(notice, sign(notice, stranger).encode(), Publisher(domain), stranger.thumbprint())
        assert await store.put(flood, NOW) is None
    ours = [taken() for _ in range(4)]
    for each in ours:
        assert await store.put(each, NOW - DAY) is None
    assert await store.prune(NOW, 30 * DAY, 10) == 24
    kept = await store.since(0)
    assert [each.notice for each in kept if each.domain == "carrier.example"] == [each.notice for each in ours]
    assert len(kept) == 10
    assert await store.prune(NOW, 30 * DAY, 4) == 6, "an equal share of each"
    kept = await store.since(0)
    assert [each.notice for each in kept if each.domain == "carrier.example"] == [each.notice for each in ours[2:]]


def test_a_level_that_is_the_same_for_all_is_what_is_left_of_each() -> None:
    assert excess({"a": 10, "b": 1}, 4) == {"a": 7}
    assert excess({"a": 10, "b": 9, "c": 1}, 11) == {"a": 5, "b": 4}
    assert excess({"a": 5, "b": 5}, 20) == {}
    assert excess({"a": 10}, 4) == {"a": 6}


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

    await store.pin("carrier.example", {stranger.thumbprint(): stranger}, NOW + 9)
    assert await store.changes() == [change], "since then"

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


async def test_a_flood_is_told_of_by_one_and_once_for_as_long_as_it_goes_on(store: Store, url: str) -> None:
    another = await open_store(url)
    try:
        flood, until = Announcement("a", NOW, NOW), NOW + 5
        claims = await asyncio.gather(*(each.claim("hook", flood, NOW, until) for each in (store, another)))
        assert sorted(claims) == [False, True]
        assert await another.claim("another hook", flood, NOW, until)
        await store.settle("hook", "a", until)
        assert await another.told("hook", {"a": NOW, "b": NOW}) == {"a"}

        last = NOW
        for _ in range(20):
            last += QUIET
            await store.go_on([Announcement("a", NOW, last)])
        # As a replica has it that was started now: for it, it began later.
        begun = Announcement("a", last - 5, last)
        assert not await another.claim("hook", begun, last, last + 5)
        assert await another.told("hook", {"a": begun.since}) == {"a"}
        later = Announcement("a", last + QUIET + 1, last + QUIET + 1)
        await another.go_on([replace(later, last=later.last + 5)])
        assert await another.told("hook", {"a": later.since}) == frozenset(), "another flood"
        assert await another.claim("hook", later, later.last, later.last + 5)
    finally:
        await another.close()


async def test_what_was_claimed_by_one_that_is_gone_is_told_by_another(store: Store) -> None:
    flood = Announcement("a", NOW, NOW)
    assert await store.claim("hook", flood, NOW, NOW + 5)
    assert not await store.claim("hook", flood, NOW + 4, NOW + 9), "it may be about to"
    assert await store.claim("hook", flood, NOW + 5, NOW + 10), "it was killed"
    await store.release("hook", "a", NOW + 5)
    assert not await store.claim("hook", flood, NOW + 6, NOW + 11), "it was another's by then"
    await store.release("hook", "a", NOW + 10)
    assert await store.claim("hook", flood, NOW + 6, NOW + 11), "it was given back"
    assert await store.told("hook", {"a": NOW}) == frozenset()


async def test_a_kept_notice_that_this_release_can_not_read_is_left_out_and_counted(store: Store) -> None:
    for payload in (b"no notice", b"{}", b"[" * 5):
        signed = jws.serialize_compact({"alg": "Ed25519"}, payload, KEY, algorithms=["Ed25519"]).encode()
        assert await store.put(replace(taken(), signed=signed), NOW) is None
    one = taken()
    assert await store.put(one, NOW) is None
    assert [each.notice for each in await store.since(0, most=1)] == [one.notice]
    assert store.unreadable == 3
    assert [each.notice for each in await store.newest(10)] == [one.notice]


async def test_replicas_hear_of_another_key_that_is_published(store: Store, url: str) -> None:
    another = await open_store(url)
    try:
        assert await store.publish("one", NOW, 60) == []
        assert await another.publish("one", NOW, 60) == []
        assert await another.publish("two", NOW + 59, 60) == ["one"]
        assert await another.publish("two", NOW + 60, 60) == [], "it has gone"
        assert await store.publish("one", NOW + 61, 60) == ["two"]
        await another.withdraw("two")
        assert await store.publish("one", NOW + 62, 60) == []
    finally:
        await another.close()


PINNED = "INSERT INTO pins (domain, key, jwk, pinned, forgotten) VALUES (:domain, :key, :jwk, :at, 0)"


@pytest.mark.parametrize("former", ["receiver_0001", "receiver_0002"])
async def test_a_former_releases_tables_are_brought_up_to_date_and_are_the_schemas(url: str, former: str) -> None:
    def make(engine: Engine) -> None:
        config = Config()
        config.set_main_option("script_location", TABLES.scripts)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, former)
            jwk = json.dumps(KEY.as_dict(private=False))
            row = {"domain": "carrier.example", "key": KEY.thumbprint(), "jwk": jwk, "at": NOW}
            connection.execute(text(PINNED), row)

    def differences(engine: Engine) -> list[object]:
        with engine.connect() as connection:
            found: list[object] = compare_metadata(MigrationContext.configure(connection), schema.metadata)
            return found

    engine = migrator(make_url(url))
    try:
        await asyncio.to_thread(make, engine)
        opened = await open_store(url)
        try:
            assert (await opened.pins())["carrier.example"].keys() == {KEY.thumbprint()}
            assert await opened.put(taken(), NOW) is None
        finally:
            await opened.close()
        assert await asyncio.to_thread(differences, engine) == []
    finally:
        engine.dispose()


async def test_replicas_that_start_together_make_the_tables_once(url: str) -> None:
    for each in await asyncio.gather(*(open_store(url) for _ in range(4))):
        await each.ready()
        await each.close()


async def test_a_million_notices_take_no_more_disk_than_is_said(tmp_path: Path) -> None:
    """The worst: what is signed is as long as may be, by members that are not known, and so are its names."""
    many, path = 200, tmp_path / "received.db"
    domain = ".".join(["a" * 61] * 4)
    opened = await open_store(f"sqlite:///{path}")
    try:
        await opened.pin(domain, {KEY.thumbprint(): KEY}, NOW)
        for number in range(many):
            one = taken(nonce=f"{number:0>256}")
            padded = one.signed + b"x" * (LARGEST_SIGNED - len(one.signed))
            assert await opened.put(replace(one, signed=padded, publisher=Publisher(domain)), NOW) is None
    finally:
        await opened.close()
    reason = next(each.metadata["reason"] for each in fields(ReceiverSettings) if each.name == "most")
    said = float(re.search(r"([\d.]+) GB at the worst", reason).group(1))  # type: ignore[union-attr]
    assert path.stat().st_size / many * ReceiverSettings.most <= said * 1e9


async def test_sqlites_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "received.db"
    await (await open_store(f"sqlite:///{path}")).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_store_of_no_known_kind_is_refused_without_its_password() -> None:
    with pytest.raises(RequestError) as refused:
        await open_store("mysql://user:secret@host/database")
    assert "secret" not in str(refused.value)
