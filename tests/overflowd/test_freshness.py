"""A notice is taken once, while it is news."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import tracemalloc
from dataclasses import dataclass, replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.notices.keys import new_key
from jfe_cni.overflowd.notices.notice import End, Notice
from jfe_cni.overflowd.notices.signing import sign
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.challenges import Challenges
from jfe_cni.overflowd.receiver.freshness import (
    AHEAD,
    MOST_OF_ONE,
    MOST_REMEMBERED,
    OLDEST,
    Freshness,
    Remembered,
    Stale,
)
from jfe_cni.overflowd.receiver.intake import Intake, Origin, Scope, Taken
from jfe_cni.overflowd.receiver.key_fetching import KeyFetcher
from jfe_cni.overflowd.receiver.limits import Limit, Sources
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.reception import Reception
from jfe_cni.overflowd.receiver.store import open_store
from tests.overflowd.test_notices import NOTICE

NOW = NOTICE.made
HOUR = 3_600_000_000
DOMAIN, SECRET = "carrier.example", bytes(32)
KEY = new_key()
HERE = Origin(ip_address("198.51.100.77"), 4_000, proven=True)


def made(at: int, nonce: str = "0123456789abcdef") -> Notice:
    return replace(NOTICE, made=at, nonce=nonce)


def test_what_came_before_is_not_taken_again() -> None:
    seen = Freshness(DOMAIN, Remembered(SECRET))
    assert seen.take(NOTICE, NOW) is None
    assert seen.take(NOTICE, NOW + HOUR) is Stale.REPLAYED
    assert seen.take(replace(NOTICE, to=End.SOURCE), NOW) is None, "its other copy"
    assert seen.take(made(NOW, "another-nonce-16"), NOW) is None


def test_a_clock_that_is_an_hour_off_is_no_reason_to_hear_nothing() -> None:
    seen = Freshness(DOMAIN, Remembered(SECRET))
    assert seen.take(made(NOW - HOUR, "an-hour-behind--"), NOW) is None
    assert seen.take(made(NOW + HOUR, "an-hour-ahead---"), NOW) is None
    assert seen.take(made(NOW + AHEAD + 1), NOW) is Stale.FROM_THE_FUTURE
    assert seen.take(made(NOW - OLDEST), NOW) is Stale.TOO_OLD


def test_no_more_is_remembered_than_may_be_and_what_is_late_is_taken() -> None:
    """What is forgotten here, the store knows."""
    remembered = Remembered(SECRET, most=2)
    seen = Freshness(DOMAIN, remembered)
    for number in range(4):
        assert seen.take(made(NOW + number, f"nonce-{number:010}"), NOW) is None
    assert len(remembered) == 2
    assert seen.take(made(NOW - HOUR, "it-was-sent-again"), NOW) is None
    assert seen.take(made(NOW, "nonce-0000000000"), NOW) is None


def test_who_has_most_is_forgotten_first_whatever_names_and_keys_it_has() -> None:
    remembered = Remembered(SECRET, most=10, of_one=6)
    quiet = Freshness("quiet.example", remembered)
    assert [quiet.take(made(NOW, f"nonce-{number:010}"), NOW) for number in range(4)] == [None] * 4
    for name in ("a.evil.example", "b.evil.example", "evil.example"):
        for _key in range(2):
            evil = Freshness(name, remembered)
            for number in range(20):
                evil.take(made(NOW, f"{name}-{_key}-{number:010}"), NOW)
    assert len(remembered) == 10
    for number in range(2):
        assert Freshness(f"other{number}.example", remembered).take(made(NOW), NOW) is None
    assert len(remembered) == 10
    assert [quiet.take(made(NOW, f"nonce-{number:010}"), NOW) for number in range(4)] == [Stale.REPLAYED] * 4


def test_what_would_be_taken_no_more_is_forgotten_though_its_key_be_silent() -> None:
    remembered = Remembered(SECRET)
    for number in range(5):
        Freshness(f"silent{number}.example", remembered).take(made(NOW), NOW)
    late = NOW + OLDEST
    assert Freshness(DOMAIN, remembered).take(made(late), late) is None
    assert len(remembered) == 1


def test_what_could_not_be_kept_may_come_again() -> None:
    remembered = Remembered(SECRET)
    seen = Freshness(DOMAIN, remembered)
    assert seen.take(NOTICE, NOW) is None
    remembered.untake(DOMAIN, NOTICE)
    remembered.untake(DOMAIN, NOTICE)
    assert (len(remembered), seen.take(NOTICE, NOW)) == (0, None)


def test_a_domains_notices_are_no_replays_of_anothers() -> None:
    remembered = Remembered(SECRET)
    for domain in (DOMAIN, "other.example", f"below.{DOMAIN}"):
        assert Freshness(domain, remembered).take(NOTICE, NOW) is None


def test_all_that_is_remembered_takes_no_more_memory_than_is_said() -> None:
    """Whatever is written into a nonce: 50 MB by the docs."""
    remembered, share = Remembered(SECRET), 8
    tracemalloc.start()
    try:
        for number in range(MOST_REMEMBERED // share + 5):
            domain = f"d{number % 9}.example"
            notice = replace(NOTICE, nonce="\U0001f600" * 200 + str(number), made=NOW + number)
            Freshness(domain, remembered).take(notice, NOW)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(remembered) == MOST_REMEMBERED // share + 5
    assert used * share < 50_000_000
    assert MOST_OF_ONE * share <= MOST_REMEMBERED, "eight domains before any of the others has less"


def test_what_the_store_has_no_more_is_no_news_nor_is_what_is_older() -> None:
    seen = Freshness(DOMAIN, Remembered(SECRET), NOW)
    assert seen.take(made(NOW), NOW) is Stale.TOO_OLD
    assert seen.take(made(NOW + 1), NOW) is None


@dataclass(frozen=True)
class Step:
    """`nonce`: of what is said. `pruned`: to so many notices, before. `later`: how much, than the former."""

    nonce: int
    offset: int
    later: int
    pruned: int | None
    restarted: bool


steps = st.builds(
    Step,
    nonce=st.integers(0, 20),
    offset=st.integers(-30 * HOUR, 3 * HOUR),
    later=st.sampled_from([0, 0, HOUR // 60, 5 * HOUR]),
    pruned=st.sampled_from([None, None, None, 0, 1, 4]),
    restarted=st.sampled_from([False, False, False, True]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(steps, max_size=40), st.integers(1, 4))
def test_nothing_is_taken_twice_however_little_is_remembered_and_kept(told: list[Step], remembered: int) -> None:
    """By a receiver's memory and its store together. Each nonce has one time of making, as it was signed; they come in
    any order, and again; memory overflows, retention takes from the store, and it starts anew."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_told(told, remembered, f"sqlite:///{folder}/received.db"))


async def _told(told: list[Step], remembered: int, url: str) -> None:
    store, now, pruned = await open_store(url), NOW, False
    await store.pin("carrier.example", {KEY.thumbprint(): KEY}, NOW)
    taken: set[int] = set()
    first_made: dict[int, int] = {}

    async def begun() -> Reception:
        believed = Believed(remembered=remembered)
        await believed.load(store)
        intake = Intake(believed.keys, believed.freshness, Challenges(bytes(32)), Scope(), {})
        fetcher = KeyFetcher(Policy(), lambda: 0, ssl.create_default_context())
        free = Sources(Limit(1_000, 1), Limit(1_000, 1))
        return Reception(
            intake, believed, fetcher, store, free, free, Metrics(), lambda: now, lambda: 0, lambda _: None
        )

    try:
        reception = await begun()
        for step in told:
            now += step.later
            if step.pruned is not None:
                pruned = await store.prune(now, 30 * 24 * HOUR, step.pruned) > 0 or pruned
            if step.restarted:
                reception = await begun()
            new = step.nonce not in first_made
            at = first_made.setdefault(step.nonce, now + step.offset)
            signed = sign(made(at, f"nonce-{step.nonce:010}"), KEY).encode()
            decision = (await reception.take(signed, HERE)).decision
            if isinstance(decision, Taken):
                assert step.nonce not in taken
                taken.add(step.nonce)
            elif new and not pruned:
                assert not now - OLDEST < at <= now + AHEAD, "nothing stands against it"
        assert {each.notice.nonce for each in await store.since(0)} <= {f"nonce-{each:010}" for each in taken}
    finally:
        await store.close()
