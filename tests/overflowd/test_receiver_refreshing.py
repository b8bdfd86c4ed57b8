"""What is believed of a reporter is looked at again."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.notices.keys import KeyRing, new_key
from jfe_cni.overflowd.receiver import pins as reporters
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.kept import Pin
from jfe_cni.overflowd.receiver.key_fetching import IN_ALL, KeyFetcher
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.refreshing import AGAIN, LOOKS, RETRY, Refreshing
from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.store import open_store
from tests.overflowd.attack import Time
from tests.overflowd.receiving import Authority, Publisher, laboratory, metric, post, started, until

HOUR = 3_600_000_000


async def test_a_key_that_is_withdrawn_is_believed_no_more(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    running = Time(0)
    async with started(laboratory(tmp_path, trusted, publisher), monotonic=running) as receiver:

        async def status(ring: KeyRing) -> int:
            return (await post(receiver.http, publisher.signed(ring.signing))).status_code

        stolen = publisher.ring
        assert await status(stolen) == 200
        publisher.ring = publisher.ring.rotated(0, overlap=1 << 40)
        assert await status(publisher.ring) == 200, "published beside the former"
        publisher.ring = KeyRing(publisher.ring.signing)
        assert await status(stolen) == 200, "it is withdrawn, and that is not known"
        assert publisher.asked == 2

        running.now += AGAIN
        assert await status(publisher.ring) == 200
        # The first is that of the rotation.
        await until(lambda: _rotated(receiver, 2))
        assert await status(stolen) != 200
        assert await status(publisher.ring) == 200


async def test_a_look_that_fails_is_repeated_within_the_hour_and_then_less_often(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    async def away(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=503)

    running = Time(0)
    async with started(laboratory(tmp_path, trusted, publisher), monotonic=running) as receiver:

        async def refused(times: int) -> bool:
            return await metric(receiver, "key_fetches", "refused") == times

        stolen = await _withdrawn(receiver, publisher)
        publisher.answer = away
        running.now += AGAIN
        await until(lambda: refused(1))
        # By itself: nothing need be heard of it again.
        running.now += RETRY
        await until(lambda: refused(2))
        running.now += RETRY
        assert (await post(receiver.http, publisher.signed(stolen))).status_code == 200, "nobody knows yet"
        publisher.answer = None
        running.now += RETRY
        await until(lambda: _rotated(receiver, 2))
        assert await refused(2), "nothing was asked for in between"
        assert (await post(receiver.http, publisher.signed(stolen))).status_code != 200


async def test_it_is_looked_at_within_a_day_however_often_the_receiver_is_started(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    clock, running, settings = Time(time.time_ns() // 1_000), Time(0), laboratory(tmp_path, trusted, publisher)
    async with started(settings, clock=clock, monotonic=running) as receiver:
        stolen = await _withdrawn(receiver, publisher)
    for _ in range(2):
        clock.now += 5 * HOUR
        async with started(settings, clock=clock, monotonic=running) as receiver:
            signed = publisher.signed(stolen, made=clock.now)
            assert (await post(receiver.http, signed)).status_code == 200
            assert publisher.asked == 2
    clock.now += 13 * HOUR
    async with started(settings, clock=clock, monotonic=running) as receiver:
        assert (await post(receiver.http, publisher.signed(stolen, made=clock.now))).status_code == 200
        running.now += HOUR
        await until(lambda: _rotated(receiver, 1))
        assert (await post(receiver.http, publisher.signed(stolen, made=clock.now))).status_code != 200


async def test_who_was_away_for_days_is_looked_at_when_it_is_heard_of(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    clock, settings = Time(time.time_ns() // 1_000), laboratory(tmp_path, trusted, publisher)
    async with started(settings, clock=clock, monotonic=Time(0)) as receiver:
        stolen = await _withdrawn(receiver, publisher)
    clock.now += 3 * AGAIN
    async with started(settings, clock=clock, monotonic=Time(0)) as receiver:
        assert (await post(receiver.http, publisher.signed(stolen, made=clock.now))).status_code == 200
        await until(lambda: _rotated(receiver, 1))
        assert (await post(receiver.http, publisher.signed(stolen, made=clock.now))).status_code != 200


async def test_however_many_are_due_after_a_start_there_are_fetches_left_for_who_is_new(tmp_path: Path) -> None:
    asked: list[str] = []

    async def none(domain: str) -> Sequence[Address]:
        asked.append(domain)
        return []

    key, running, believed = new_key(), Time(0), Believed()
    store = await open_store(f"sqlite:///{tmp_path}/received.db")
    fetcher = KeyFetcher(Policy(), running, ssl.create_default_context(), none)
    complaints = Complaints(logging.getLogger("overflowd"), running)
    refreshing = Refreshing(believed, fetcher, store, Metrics(), lambda: AGAIN, running, complaints)
    for number in range(4 * LOOKS.count):
        believed.put(f"d{number}.example", {key.thumbprint(): Pin(key, 0, 0)})
        refreshing.heard(reporters.Publisher(f"d{number}.example"))
    looking = asyncio.create_task(refreshing.run())
    try:
        for minute in (1, 2):
            await until(functools.partial(_all, asked, minute * LOOKS.count))
            refreshing.heard(reporters.Publisher("d0.example"))
            await asyncio.sleep(0.1)
            assert len(asked) == len(set(asked)) == minute * LOOKS.count
            running.now += LOOKS.window
            refreshing.heard(reporters.Publisher(f"d{4 * LOOKS.count - 1}.example"))
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await fetcher.close()
        await store.close()
    assert 2 * LOOKS.count < IN_ALL.count


async def _all(asked: Sequence[str], count: int) -> bool:
    return len(asked) == count


async def _withdrawn(receiver: Receiver, publisher: Publisher) -> OKPKey:
    """A key that was believed, that its successor was published beside, and that is not published any more."""
    stolen = publisher.ring.signing
    assert (await post(receiver.http, publisher.signed(stolen))).status_code == 200
    publisher.ring = publisher.ring.rotated(0, overlap=1 << 40)
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    publisher.ring = KeyRing(publisher.ring.signing)
    assert publisher.asked == 2
    return stolen


async def test_keys_that_are_all_withdrawn_stay_until_a_person_says_so(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    running = Time(0)
    async with started(laboratory(tmp_path, trusted, publisher), monotonic=running) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        former, publisher.ring = publisher.ring, KeyRing(new_key())
        running.now += AGAIN
        assert (await post(receiver.http, publisher.signed(former.signing))).status_code == 200
        await until(lambda: metric(receiver, "pins", "changed"))
        assert (await post(receiver.http, publisher.signed(former.signing))).status_code == 200


async def _rotated(receiver: Receiver, times: int) -> bool:
    return await metric(receiver, "pins", "rotated") == times
