"""The outbox on SQLite and PostgreSQL: each copy is sent by one collector, once, or accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import stat
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import make_url, select, text, update

from jfe_cni.databases.engines import writer
from jfe_cni.errors import RequestError, StoreError
from jfe_cni.overflowd.delivery.counts import Counts
from jfe_cni.overflowd.delivery.database import Database, open_database
from jfe_cni.overflowd.delivery.decisions import LONGEST_WAIT
from jfe_cni.overflowd.delivery.outbox import LEASE, Outbox
from jfe_cni.overflowd.delivery.outcomes import Outcome, Spared, State, Way
from jfe_cni.overflowd.delivery.schema import copies
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.notice import End, Notice, decode, new_nonce
from jfe_cni.ratelock.stores import open_store
from tests.overflowd.test_notices import NOTICE

DAY = 86_400 * 1_000_000
TAKEN = Outcome(State.SENT, None, Way.UDP)
RING = keys.KeyRing(keys.new_key())


def several(count: int) -> list[Notice]:
    return [dataclasses.replace(NOTICE, nonce=new_nonce()) for _ in range(count)]


@dataclasses.dataclass(frozen=True)
class Opened:
    outbox: Outbox
    database: Database
    registry: CollectorRegistry

    async def rows(self) -> Sequence[tuple[str, str | None]]:
        wanted = select(copies.c.state, copies.c.reason).order_by(copies.c.id)
        return [(row[0], row[1]) for row in await self.database.run(lambda each: each.execute(wanted).all())]

    async def states(self) -> Counter[str]:
        return Counter(state for state, _ in await self.rows())

    def counted(self, state: State, reason: str = "", way: str = "") -> float:
        labels = {"state": state, "reason": reason, "way": way}
        return self.registry.get_sample_value("overflowd_copies_total", labels) or 0


@contextlib.asynccontextmanager
async def opened(
    url: str, collector: str = "one", most: int = 100_000, retention: int = DAY, ring: keys.KeyRing = RING
) -> AsyncIterator[Opened]:
    async with open_database(url) as database:
        registry = CollectorRegistry()
        yield Opened(Outbox(database, Counts(registry), collector, ring, most, retention), database, registry)


async def test_a_notice_that_was_put_waits_in_two_copies_over_a_restart(state_url: str) -> None:
    async with opened(state_url) as first:
        await first.outbox.put([NOTICE])
    async with opened(state_url) as second:
        claimed = await second.outbox.claim(10)
    assert [str(each.address) for each in claimed] == ["198.51.100.1", "203.0.113.9"]
    assert decode(claimed[0].notice) == dataclasses.replace(NOTICE, to=End.SOURCE)
    assert decode(claimed[1].notice) == NOTICE


async def test_what_is_put_again_is_there_once(state_url: str) -> None:
    async with opened(state_url) as one:
        await one.outbox.put([NOTICE, NOTICE])
        await one.outbox.put([NOTICE])
        assert await one.states() == {State.WAITING: 2}
        await one.outbox.claim(10)
        await one.outbox.put([NOTICE])
        assert await one.outbox.claim(10) == [], "nor is it sent again when it is under way"


async def test_what_was_claimed_is_nobody_elses_and_ends_as_it_is_said_to(state_url: str) -> None:
    async with opened(state_url) as one:
        await one.outbox.put([NOTICE])
        first, second = await one.outbox.claim(10)
        assert await one.outbox.claim(10) == []
        await one.outbox.end(first, TAKEN)
        await one.outbox.end(second, Outcome(State.WITHHELD, Spared.ADDRESS_BUDGET))
        assert await one.rows() == [(State.SENT, None), (State.WITHHELD, Spared.ADDRESS_BUDGET)]
        assert one.counted(State.SENT, way=Way.UDP) == 1
        assert one.counted(State.WITHHELD, Spared.ADDRESS_BUDGET) == 1


async def test_what_is_given_back_waits_again(state_url: str) -> None:
    async with opened(state_url) as one:
        await one.outbox.put([NOTICE])
        for each in await one.outbox.claim(10):
            await one.outbox.give_back(each)
        assert len(await one.outbox.claim(10)) == 2


async def test_what_a_former_life_was_sending_is_unknown_and_is_never_sent_again(state_url: str) -> None:
    async with opened(state_url) as former:
        await former.outbox.put([NOTICE])
        [claimed] = await former.outbox.claim(1)
        async with opened(state_url) as new:
            assert await new.outbox.resume() == 1
            assert await new.rows() == [(State.UNKNOWN, "interrupted"), (State.WAITING, None)]
            assert new.counted(State.UNKNOWN, "interrupted") == 1
            assert len(await new.outbox.claim(10)) == 1
            await former.outbox.end(claimed, TAKEN)
            assert (await new.rows())[0] == (State.UNKNOWN, "interrupted"), "what was accounted for stays so"
        assert former.counted(State.SENT, way=Way.UDP) == 0


async def test_what_another_collector_sends_is_its_own_until_it_is_not_heard_of_any_more(state_url: str) -> None:
    async with opened(state_url, "one") as one, opened(state_url, "two") as two:
        await one.outbox.put(several(1))
        await one.outbox.claim(1)
        assert await two.outbox.resume() == 0
        await two.outbox.keep_up()
        assert (await two.states())[State.SENDING] == 1
        await pass_by(two.database, LEASE - 5_000_000)
        await one.outbox.keep_up()
        await pass_by(two.database, LEASE - 5_000_000)
        await two.outbox.keep_up()
        assert (await two.states())[State.SENDING] == 1, "it has said that it is there"
        await pass_by(two.database, 10_000_000)
        await two.outbox.keep_up()
        assert await two.states() == {State.UNKNOWN: 1, State.WAITING: 1}
        assert two.counted(State.UNKNOWN, "interrupted") == 1


async def pass_by(database: Database, some: int) -> None:
    """As much time, for what is held."""
    await database.run(lambda each: each.execute(update(copies).values(held_until=copies.c.held_until - some)))


async def test_collectors_beside_each_other_take_each_copy_once(state_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        collectors = [await stack.enter_async_context(opened(state_url, f"number {each}")) for each in range(3)]
        wanted = several(100)
        for start in range(0, 100, 20):
            await collectors[0].outbox.put(wanted[start : start + 20])

        async def take(collector: Opened) -> list[int]:
            found: list[int] = []
            while claimed := await collector.outbox.claim(7):
                found += [each.id for each in claimed]
                for each in claimed:
                    await collector.outbox.end(each, TAKEN)
            return found

        taken = await asyncio.gather(*(take(each) for each in collectors))
        every = [each for found in taken for each in found]
        assert len(every) == len(set(every)) == 200
        assert await collectors[0].states() == {State.SENT: 200}


async def test_collectors_that_put_and_take_at_once_lose_nothing_and_drop_the_oldest(state_url: str) -> None:
    async with opened(state_url, "one", most=50) as one, opened(state_url, "two", most=50) as two:

        async def put(collector: Opened) -> None:
            for _ in range(10):
                await collector.outbox.put(several(10))

        async def take(collector: Opened) -> None:
            for _ in range(10):
                for each in await collector.outbox.claim(3):
                    await collector.outbox.end(each, TAKEN)

        await asyncio.gather(put(one), put(two), take(one), take(two))
        states = await one.states()
        assert sum(states.values()) == 400
        assert states[State.WAITING] <= 50
        dropped = sum(each.counted(State.DROPPED, "outnumbered") for each in (one, two))
        assert states[State.DROPPED] == dropped > 0


async def test_where_too_many_wait_the_oldest_is_accounted_for_as_dropped(state_url: str) -> None:
    async with opened(state_url, most=3) as one:
        await one.outbox.put(several(1))
        await one.outbox.put(several(2))
        assert [state for state, _ in await one.rows()] == [State.DROPPED] * 3 + [State.WAITING] * 3
        assert one.counted(State.DROPPED, "outnumbered") == 3


async def test_however_many_are_put_at_once_no_more_wait_than_the_limit(state_url: str) -> None:
    # More than go in one transaction, and more than are dropped in one.
    async with opened(state_url, most=10) as one:
        await one.outbox.put(several(11_000))
        assert await one.states() == {State.WAITING: 10, State.DROPPED: 21_990}
        assert one.counted(State.DROPPED, "outnumbered") == 21_990
    async with opened(state_url, most=4) as lowered:
        await lowered.outbox.put(several(1))
        assert (await lowered.states())[State.WAITING] == 4


async def test_a_limit_that_was_lowered_by_many_holds_from_the_next_put_on(state_url: str) -> None:
    async with opened(state_url) as former:
        await former.outbox.put(several(6_000))
    async with opened(state_url, most=10) as one:
        await one.outbox.put(several(1))
        assert (await one.states())[State.WAITING] == 10


async def test_a_copy_is_sent_by_who_holds_the_key_that_it_names_and_by_nobody_else(state_url: str) -> None:
    async with (
        opened(state_url, "one") as one,
        opened(state_url, "same key") as same,
        opened(state_url, "other key", ring=keys.KeyRing(keys.new_key())) as other,
    ):
        await one.outbox.put(several(2))
        assert await other.outbox.claim(10) == []
        assert len(await same.outbox.claim(1)) == 1, "it may be signed by whoever holds the key"
        one.outbox.hold(RING.rotated(0))
        assert len(await one.outbox.claim(10)) == 3, "one that was rotated since is held still"
        await one.outbox.put(several(1))
        assert await same.outbox.claim(10) == [], "whose key is not new"


async def test_what_nobody_takes_any_more_is_accounted_for_as_too_old(state_url: str) -> None:
    async with opened(state_url, "gone") as gone:
        await gone.outbox.put(several(1))
    async with opened(state_url, "other", ring=keys.KeyRing(keys.new_key())) as other:
        await other.outbox.keep_up()
        assert await other.states() == {State.WAITING: 2}
        older = update(copies).values(put_at=copies.c.put_at - LONGEST_WAIT - 1)
        await other.database.run(lambda each: each.execute(older))
        await other.outbox.keep_up()
        assert await other.rows() == [(State.WITHHELD, Spared.TOO_OLD)] * 2
        assert other.counted(State.WITHHELD, Spared.TOO_OLD) == 2


async def test_the_oldest_are_claimed_or_the_newest_or_those_of_an_address(state_url: str) -> None:
    async with opened(state_url) as one:
        await one.outbox.put(several(3))
        assert [each.id for each in await one.outbox.claim(1)] == [1]
        assert [each.id for each in await one.outbox.claim(1, newest=True)] == [6]
        found = await one.outbox.claim(10, among=[NOTICE.flow.source])
        assert [each.address for each in found] == [NOTICE.flow.source] * 2


async def test_what_ended_long_ago_is_forgotten_and_what_waits_is_not(state_url: str) -> None:
    async with opened(state_url, retention=DAY) as one:
        await one.outbox.put([NOTICE])
        [first] = await one.outbox.claim(1)
        await one.outbox.end(first, TAKEN)
        await one.outbox.keep_up()
        assert len(await one.rows()) == 2
        older = update(copies).values(changed_at=copies.c.changed_at - DAY - 1)
        await one.database.run(lambda each: each.execute(older))
        await one.outbox.keep_up()
        assert await one.states() == {State.WAITING: 1}
        assert one.registry.get_sample_value("overflowd_copies_waiting") == 1


async def test_many_that_put_at_once_share_a_transaction(postgresql_url: str) -> None:
    async with opened(postgresql_url) as one:
        await asyncio.gather(*(one.outbox.put(several(1)) for _ in range(200)))
        assert await one.states() == {State.WAITING: 400}
        # PostgreSQL tells which transaction made a row.
        transactions = text("SELECT count(DISTINCT xmin::text) FROM copies")
        assert await one.database.run(lambda each: each.execute(transactions).scalar_one()) < 20


async def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/state.db") as one:
        await one.outbox.put([NOTICE])
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("state.db*")} == {0o600}


@pytest.mark.parametrize(
    "url", ["mysql://host/database", "nonsense", "sqlite:////no/such/folder/state.db", "sqlite://"]
)
async def test_a_state_that_can_not_be_kept_is_said_to_be(url: str) -> None:
    with pytest.raises(RequestError):
        async with opened(url):
            pass


async def test_tables_of_a_newer_release_are_left_alone(sqlite_url: str) -> None:
    async with opened(sqlite_url):
        pass
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RequestError, match="newer release"):
        async with opened(sqlite_url):
            pass


async def test_tables_of_another_program_are_not_taken_for_these(state_url: str) -> None:
    store = await open_store(state_url)
    await store.close()
    with pytest.raises(RequestError):
        async with opened(state_url):
            pass


async def test_a_database_that_goes_away_is_said_to_be_and_is_asked_again(postgresql_url: str) -> None:
    async with opened(postgresql_url) as one:
        await one.outbox.put(several(1))
        ended = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        other = writer(make_url(postgresql_url))
        with other.begin() as connection:
            connection.execute(ended)
        other.dispose()
        await one.outbox.put(several(1))
        assert await one.states() == {State.WAITING: 4}
    with pytest.raises(StoreError):
        await one.outbox.put(several(1))
