"""Who is left alone, and for how long, on both databases; every collector knows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from sqlalchemy import update

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.delivery.answers import OptOutHeard
from jfe_cni.overflowd.delivery.database import Database, open_database
from jfe_cni.overflowd.delivery.decisions import FIRST_ALONE, LONGEST_ALONE
from jfe_cni.overflowd.delivery.optouts import NEIGHBOURS_FOR, LeavingAlone
from jfe_cni.overflowd.delivery.outcomes import Cause
from jfe_cni.overflowd.delivery.schema import left_alone
from jfe_cni.overflowd.notices import keys
from jfe_cni.overflowd.notices.optout import OptOutAsked, asked, sign

ADDRESS = ip_address("203.0.113.9")
ROOT = Path(__file__).parents[2]
FUTURE = 4_000_000_000


def heard(until: int | None = None, length: int | None = None, key: str = "key") -> OptOutHeard:
    return OptOutHeard(OptOutAsked(key, until, length), b"signed")


async def test_who_asked_is_left_alone_after_a_restart_with_the_key_that_signed_it(state_url: str) -> None:
    async with open_database(state_url) as database:
        await LeavingAlone(database).ask(ADDRESS, heard())
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        assert await alone.cause(ADDRESS) is Cause.ASKED
        assert await alone.cause(ip_address("203.0.113.10")) is None
        [found] = await alone.all()
        assert (found.network, found.cause, found.until, found.key) == (
            ip_network("203.0.113.9/32"), Cause.ASKED, None, "key",
        )  # fmt: skip


async def test_its_network_is_left_alone_with_it_where_it_asks_for_that(state_url: str) -> None:
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        await alone.ask(ADDRESS, heard(length=24))
        await alone.ask(ip_address("2001:db8:1:2::9"), heard(length=48))
        assert await alone.cause(ip_address("203.0.113.255")) is Cause.ASKED
        assert await alone.cause(ip_address("203.0.114.1")) is None
        assert await alone.cause(ip_address("2001:db8:1:ffff::1")) is Cause.ASKED
        assert await alone.cause(ip_address("2001:db8:2::1")) is None


@pytest.mark.parametrize("until", [None, FUTURE])
async def test_its_network_is_left_alone_for_a_day_at_most_and_itself_for_as_long_as_it_asks(
    until: int | None, state_url: str
) -> None:
    neighbour = ip_address("203.0.113.10")
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        await alone.ask(ADDRESS, heard(until, length=24))
        assert await alone.cause(neighbour) is Cause.ASKED
        await passed(database, NEIGHBOURS_FOR)
        assert await alone.cause(neighbour) is None
        assert await alone.cause(ADDRESS) is Cause.ASKED
        await alone.ask(neighbour, heard(until, length=24))
        assert await alone.cause(ip_address("203.0.113.11")) is Cause.ASKED, "asked for again"
        await alone.ask(neighbour, heard(until=1, length=24))
        assert await alone.cause(ip_address("203.0.113.11")) is None, "no longer than it asks"


async def test_it_is_told_again_when_its_time_is_over_or_it_is_lifted_by_hand(state_url: str) -> None:
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        await alone.ask(ADDRESS, heard(until=FUTURE))
        assert await alone.cause(ADDRESS) is Cause.ASKED
        await alone.ask(ADDRESS, heard(until=1))
        assert await alone.cause(ADDRESS) is None, "the last word holds"
        assert await alone.all() == []
        await alone.ask(ADDRESS, heard())
        assert await alone.lift(ip_network("203.0.113.9/32"))
        assert not await alone.lift(ip_network("203.0.113.9/32"))
        assert await alone.cause(ADDRESS) is None


async def passed(database: Database, time: Microseconds) -> None:
    """All that is known is older by so much."""
    older = update(left_alone).values(since=left_alone.c.since - time, until=left_alone.c.until - time)
    await database.run(lambda connection: connection.execute(older))


async def test_who_can_not_be_reached_is_left_alone_for_minutes_and_then_for_longer(state_url: str) -> None:
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        for lasts in (FIRST_ALONE, 4 * FIRST_ALONE):
            await alone.give_up(ADDRESS, confirmed=True)
            await alone.give_up(ADDRESS, confirmed=True)
            assert await alone.cause(ADDRESS) is Cause.UNREACHABLE
            [found] = await alone.all()
            assert found.until == found.since + lasts
            await passed(database, lasts)
            await alone.keep_up()
            assert await alone.cause(ADDRESS) is None
        await alone.ask(ADDRESS, heard())
        await passed(database, LONGEST_ALONE)
        await alone.keep_up()
        await alone.give_up(ADDRESS, confirmed=True)
        assert await alone.cause(ADDRESS) is Cause.ASKED
        lasted = {each.cause: each.until and each.until - each.since for each in await alone.all()}
        assert lasted == {Cause.ASKED: None, Cause.UNREACHABLE: FIRST_ALONE}, "a day later nothing is known of it"


async def test_what_nobody_confirms_is_remembered_and_leaves_nobody_alone_at_once(state_url: str) -> None:
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        for _ in range(3):
            await alone.give_up(ADDRESS, confirmed=False)
            assert await alone.cause(ADDRESS) is None
        await passed(database, FIRST_ALONE)
        await alone.keep_up()
        await alone.give_up(ADDRESS, confirmed=False)
        assert await alone.cause(ADDRESS) is Cause.UNREACHABLE


async def test_who_answers_was_never_away(state_url: str) -> None:
    async with open_database(state_url) as database:
        alone = LeavingAlone(database)
        await alone.give_up(ADDRESS, confirmed=True)
        await alone.is_there(ADDRESS)
        assert await alone.cause(ADDRESS) is None
        await alone.ask(ADDRESS, heard())
        await alone.is_there(ADDRESS)
        assert await alone.cause(ADDRESS) is Cause.ASKED


async def test_whatever_time_a_receiver_names_a_person_sees_who_is_left_alone(sqlite_url: str) -> None:
    key = keys.new_key()
    async with open_database(sqlite_url) as database:
        for number, until in enumerate((253_402_300_799, 253_402_300_800, 1 << 40)):
            signed = sign("A" * 22, key, until=until).encode()
            wish = asked(signed, "A" * 22)
            assert isinstance(wish, OptOutAsked)
            await LeavingAlone(database).ask(ip_address(f"203.0.113.{number}"), OptOutHeard(wish, signed))
    listed = await overflowd("alone", "list", "--state", sqlite_url)
    assert sorted(line.split()[:4] for line in listed.stdout.splitlines()) == [
        ["203.0.113.0/32", "asked", "until", "9999-12-31T23:59:59+00:00"],
        ["203.0.113.1/32", "asked", "until", "lifted"],
        ["203.0.113.2/32", "asked", "until", "lifted"],
    ]


async def test_a_person_sees_who_is_left_alone_and_lifts_it(sqlite_url: str) -> None:
    async with open_database(sqlite_url) as database:
        await LeavingAlone(database).ask(ADDRESS, heard())
        await LeavingAlone(database).ask(ip_address("2001:db8::9"), heard(until=FUTURE, length=64))
    listed = await overflowd("alone", "list", "--state", sqlite_url)
    of_network, *of_addresses = sorted(listed.stdout.splitlines())
    assert of_network.startswith("2001:db8::/64 asked until 20")
    assert of_addresses == [
        "2001:db8::9/128 asked until 2096-10-02T07:06:40+00:00 key",
        "203.0.113.9/32 asked until lifted key",
    ]
    assert (await overflowd("alone", "lift", "203.0.113.9/32", "--state", sqlite_url)).returncode == 0
    assert len((await overflowd("alone", "list", "--state", sqlite_url)).stdout.splitlines()) == 2
    for network, said in (("203.0.113.9/32", "is not left alone"), ("everybody", "is no network")):
        refused = await overflowd("alone", "lift", network, "--state", sqlite_url)
        assert (refused.returncode, said in refused.stderr) == (1, True)


async def overflowd(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", *words]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
