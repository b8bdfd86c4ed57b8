"""What a receiver keeps to when its store fails, its clock is set, or somebody asks it for too much: over real sockets,
with a real publisher of keys, on a real store."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.keys import new_key
from jfe_cni.overflowd.notices.messages import Sent, Taken, digest
from jfe_cni.overflowd.notices.signing import ALGORITHM, TYPE
from jfe_cni.overflowd.receiver.reception import INTRODUCTIONS
from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from tests.overflowd.receiving import (
    Authority,
    Publisher,
    Sender,
    laboratory,
    metric,
    notices,
    post,
    publishing,
    started,
)
from tests.overflowd.test_notices import NOTICE

DAY = 86_400 * 1_000_000


class Wall:
    """A clock of the wall, that somebody sets."""

    def __init__(self) -> None:
        self.off = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000 + self.off


async def test_a_copy_of_what_could_not_be_kept_is_kept_itself(
    tmp_path: Path, settings: ReceiverSettings, receiver: Receiver, publisher: Publisher
) -> None:
    """Both come while another program has SQLite's lock; the first is given up, the copy has waited for it."""
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    signed = publisher.signed()
    with closing(sqlite3.connect(tmp_path / "received.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(post(receiver.http, signed))
        # It is being kept now.
        await asyncio.sleep(1)
        assert not first.done()
        copies = [asyncio.create_task(post(receiver.http, signed)) for _ in range(2)]
        assert (await first).status_code == 503
        another.execute("ROLLBACK")
    assert [(await each).content for each in copies] == [messages.encode(Taken(digest(signed)))] * 2
    assert len(await notices(receiver)) == 2
    assert (await post(receiver.http, signed)).status_code == 200
    assert len(await notices(receiver)) == 2
    assert await metric(receiver, "notices", "taken") == 2


async def test_no_datagram_is_an_error_whatever_its_header_says(receiver: Receiver, publisher: Publisher) -> None:
    """Anybody may send it, with the name of a key that is believed."""
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    known = publisher.signed()
    _, payload, signature = known.split(b".")
    header = {"alg": ALGORITHM, "kid": publisher.ring.signing.thumbprint(), "typ": TYPE}
    with Sender(receiver.udp) as sender:
        assert await sender.introduce(known) == Taken(digest(known))
        values: tuple[object, ...] = (None, 5, [1], True, [], {}, "\ud800", "é", ["b64"], 1.5)
        for name, value in itertools.product((*header, "crit", "b64", "jwk", "x5c"), values):
            first = base64.urlsafe_b64encode(json.dumps({**header, name: value}).encode()).rstrip(b"=")
            sender.send(b".".join((first, payload, signature)))
        last = publisher.signed()
        sender.send(last)
        # None of them is answered, not by a challenge either: no key has such a name.
        assert messages.decode(await sender.hear()) == Taken(digest(last))
    gc.collect()
    assert errors == []


@pytest.mark.parametrize("step", [-3 * DAY, 3 * DAY])
async def test_a_clock_that_is_set_closes_nothing(
    tmp_path: Path, trusted: Authority, publisher: Publisher, step: int
) -> None:
    """Limits, cookies and what was asked for in vain are of a clock that nobody sets."""
    wall = Wall()
    settings = laboratory(tmp_path, trusted, publisher, source_notices=100)

    def signed() -> bytes:
        return publisher.signed(made=wall())

    async with started(settings, clock=wall) as receiver:
        with Sender(receiver.udp) as sender:
            # A network that has sent as much as it may, nearly.
            for _ in range(90):
                assert isinstance(await sender.ask(publisher.signed(new_key())), messages.Challenge)
            first = signed()
            challenge = await sender.ask(first)
            assert isinstance(challenge, messages.Challenge)
            wall.off = step
            first = signed()
            assert await sender.ask(messages.encode(Sent(first, challenge.cookie))) == Taken(digest(first))
            for _ in range(5):
                second = signed()
                assert await sender.ask(second) == Taken(digest(second))
            wall.off = 0
            third = signed()
            if step < 0:
                assert await sender.ask(third) == Taken(digest(third))
        assert (await post(receiver.http, signed())).status_code == 200
        assert await metric(receiver, "notices", "too-many") == 0


@pytest.mark.parametrize("step", [-3 * DAY, 3 * DAY])
async def test_what_was_asked_for_in_vain_is_left_alone_for_as_long_whatever_the_clock_says(
    tmp_path: Path, trusted: Authority, publisher: Publisher, step: int
) -> None:
    async def none(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"keys": []})

    publisher.answer, wall = none, Wall()
    async with started(laboratory(tmp_path, trusted, publisher), clock=wall) as receiver:
        for wall.off in (0, step, 0):
            assert (await post(receiver.http, publisher.signed(made=wall()))).status_code == 503
        assert await metric(receiver, "key_fetches", "asked-before") == 2
    assert publisher.asked == 1


async def test_one_that_is_new_to_a_network_leaves_room_for_others(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    """Twenty notices at once, of one domain, are one introduction."""
    async with (
        publishing(trusted, "second.example") as second,
        started(laboratory(tmp_path, trusted, publisher, second)) as receiver,
    ):
        many = INTRODUCTIONS.count + 4
        found = await asyncio.gather(*(post(receiver.http, publisher.signed()) for _ in range(many)))
        assert [each.status_code for each in found] == [200] * many
        assert (await post(receiver.http, second.signed())).status_code == 200
        # Nor are those that nothing is fetched for.
        gone = replace(NOTICE.reporter, keys=publisher.url.replace(publisher.domain, "gone.example"))
        for _ in range(INTRODUCTIONS.count):
            assert (await post(receiver.http, publisher.signed(reporter=gone))).status_code == 503
        assert await metric(receiver, "notices", "too-many") == 0
        assert await metric(receiver, "key_fetches", "asked-before") == INTRODUCTIONS.count - 1
    assert (publisher.asked, second.asked) == (1, 1)


async def test_a_ring_of_many_keys_that_does_not_say_its_length_is_fetched_when_enough_has_come(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    """Its reporter says the same again and again meanwhile."""
    for _ in range(5):
        publisher.ring = publisher.ring.rotated(int(time.time()))
    tries = 0

    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "application/jwk-set+json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(web.json_response(publisher.ring.published(int(time.time()))).body)  # type: ignore[arg-type]
        return answer

    publisher.answer = chunked
    async with started(laboratory(tmp_path, trusted, publisher)) as receiver:
        signed = publisher.signed()
        while (await post(receiver.http, signed)).status_code != 200:
            tries += 1
            assert tries < 10
        assert 1 < publisher.asked <= 3
        assert await metric(receiver, "key_fetches", "fetched") == 1
        assert await metric(receiver, "key_fetches", "too-large") == tries
