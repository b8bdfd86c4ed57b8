"""Whom the receiver tells of what, once, and that who invents floods takes nobody's place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.notices.keys import KeyRing, new_key
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.receiver import webhooks
from jfe_cni.overflowd.receiver.aggregation import MOST_FLOODS, QUIET, Flood, Floods
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.going_on import GoingOn
from jfe_cni.overflowd.receiver.kept import Announcement, Change
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.store import Store, open_store
from jfe_cni.overflowd.receiver.webhooks import LEASE, MOST_OF_ONE, MOST_TOLD, Webhooks
from tests.overflowd.attack import Time
from tests.overflowd.receiving import Authority, Publisher, laboratory, post, started, until
from tests.overflowd.test_notices import NOTICE

NOW = time.time_ns() // 1_000
SECRET = b"0123456789abcdef"


@dataclass
class Hook:
    """What came, and, `open` or not, whether it is answered."""

    url: str = ""
    came: list[dict[str, Any]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json()
        self.asked += 1
        await self.open.wait()
        self.came.append(body)
        return web.Response()

    @property
    def targets(self) -> Counter[str]:
        return Counter(each.get("target") or each["domain"] for each in self.came)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    found.open.set()
    runner = web.ServerRunner(web.Server(found.serve), shutdown_timeout=0)
    await runner.setup()
    try:
        bound = socket.create_server(("127.0.0.1", 0))
        found.url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        await web.SockSite(runner, bound).start()
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/received.db")
    yield opened
    await opened.close()


@dataclass
class Replica:
    """`clock`: as it is set; `running`: as it goes."""

    hooks: Webhooks
    metrics: Metrics
    clock: Time
    running: Time

    def outcome(self, name: str) -> float:
        wanted = f'overflowd_receiver_webhooks_total{{outcome="{name}"}} '
        lines = self.metrics.text().decode().splitlines()
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


@contextlib.asynccontextmanager
async def replica(store: Store, hook: Hook) -> AsyncIterator[Replica]:
    metrics, clock, running = Metrics(), Time(NOW), Time(0)
    complaints = Complaints(logging.getLogger("overflowd"), running)
    hooks = Webhooks((hook.url,), SECRET, store, metrics, clock, running, complaints, (0.01,))
    task = asyncio.create_task(hooks.run())
    try:
        yield Replica(hooks, metrics, clock, running)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def flood(number: int, *domains: str) -> Flood:
    target = ip_address(0x0A000000 + number)
    floods = Floods()
    for domain in domains:
        floods.take(NOW, domain, replace(NOTICE, flow=replace(NOTICE.flow, destination=target)))
    (found,) = floods
    return found


async def test_what_there_is_too_much_of_is_told_later_and_what_was_told_costs_nothing(
    store: Store, hook: Hook
) -> None:
    several = [flood(number, "a.example") for number in range(MOST_OF_ONE.count + 5)]
    async with replica(store, hook) as first:
        for each in several:
            first.hooks.tell(each)
        await until(lambda: _is(first.outcome("too-many") == 5))
        assert len(hook.came) == MOST_OF_ONE.count
        first.running.now += MOST_OF_ONE.window // MOST_OF_ONE.count * 2
        first.hooks.tell(flood(1_000, "b.example"))
        await until(lambda: _is(first.outcome("told") == MOST_OF_ONE.count + 3))
    # Another start: what was told in the former one takes no place of what was not.
    async with replica(store, hook) as second:
        for each in several:
            second.hooks.tell(each)
        await until(lambda: _is(second.outcome("told") == 3))
        assert second.outcome("too-many") == 0
        more = [flood(2_000 + number, "a.example") for number in range(MOST_OF_ONE.count)]
        for each in more:
            second.hooks.tell(each)
        await until(lambda: _is(second.outcome("told") == MOST_OF_ONE.count))
        await until(lambda: _is(second.outcome("too-many") == 3))
        second.hooks.tell(flood(1_001, "c.example"))
        await until(lambda: _is(second.outcome("told") == MOST_OF_ONE.count + 1))
        assert second.outcome("too-many") == 3
    told = (*several, flood(1_000, "b.example"), *more[:-3], flood(1_001, "c.example"))
    assert hook.targets == Counter({each.name.target: 1 for each in told})


async def test_one_domain_with_many_names_does_not_silence_the_others(store: Store, hook: Hook) -> None:
    hook.open.clear()
    async with replica(store, hook) as one:
        for number in range(2 * MOST_FLOODS):
            one.hooks.tell(flood(number, f"n{number}.evil.example", f"m{number}.evil.example"))
        real = [flood(2_000, "evil.example", "a.example"), flood(2_001, "b.example")]
        for each in real:
            one.hooks.tell(each)
        hook.open.set()
        await until(lambda: _is(one.outcome("told") == MOST_OF_ONE.count + 2))
        await until(lambda: _is(one.outcome("too-many") > 0))
    told = [each["target"] for each in hook.came]
    assert {each.name.target for each in real} <= set(told)
    assert told.index(real[0].name.target) <= 1, "told of by two, it is told before all that wait"
    assert MOST_OF_ONE.count * 2 <= MOST_TOLD.count


async def test_what_a_replica_was_stopped_in_is_told_by_the_next(store: Store, hook: Hook) -> None:
    hook.open.clear()
    async with replica(store, hook) as stopped:
        stopped.hooks.tell(flood(1, "a.example"))
        await until(lambda: _is(hook.asked == 1))
    hook.open.set()
    async with replica(store, hook) as next_one:
        next_one.hooks.tell(flood(1, "a.example"))
        await until(lambda: _is(next_one.outcome("told") == 1))


async def test_what_a_replica_was_killed_in_is_told_when_its_claim_is_over(store: Store, hook: Hook) -> None:
    one = flood(1, "a.example")
    claimed = Announcement(f"flood {one.name}", one.since, one.last)
    assert await store.claim(hashlib.sha256(hook.url.encode()).hexdigest(), claimed, NOW, NOW + LEASE)
    async with replica(store, hook) as other:
        other.hooks.tell(one)
        other.hooks.tell_of_change(Change("changed.example", ("key",), NOW))
        await until(lambda: _is(other.outcome("told") == 1))
        assert hook.targets == {"changed.example": 1}
        other.clock.now += LEASE
        await until(lambda: _is(other.outcome("told") == 2))
    assert hook.targets == {"changed.example": 1, one.name.target: 1}


async def test_that_a_flood_goes_on_is_known_to_whoever_reads_its_end_alone(store: Store, hook: Hook) -> None:
    floods, last = Floods(), NOW + QUIET
    async with replica(store, hook) as one:
        begun = floods.take(NOW, "a.example", NOTICE)
        assert begun is not None
        one.hooks.tell(begun)
        await until(lambda: _is(one.outcome("told") == 1))
        floods.take(last, "a.example", NOTICE)
        name = f"flood {begun.name}"
        hashed = hashlib.sha256(hook.url.encode()).hexdigest()

        async def known() -> bool:
            return name in await store.told(hashed, {name: last + QUIET})

        await until(known)
    async with replica(store, hook) as other:
        end = Floods().take(last + QUIET, "a.example", NOTICE)
        assert end is not None
        other.hooks.tell(end)
        other.hooks.tell(flood(1, "a.example"))
        await until(lambda: _is(other.outcome("told") == 1))
    assert hook.targets == {begun.name.target: 1, "10.0.0.1": 1}


async def test_what_is_shown_no_longer_is_held_for_no_webhook(store: Store, hook: Hook) -> None:
    hook.open.clear()
    async with replica(store, hook) as one:
        floods, invented = Floods(), 3 * MOST_FLOODS
        for port in range(1, invented + 1):
            flow = replace(NOTICE.flow, source_port=60_000, destination_port=port)
            begun = floods.take(NOW, "evil.example", replace(NOTICE, flow=flow, classified=Class.REPORTED))
            assert begun is not None
            one.hooks.tell(begun)
        await until(lambda: _is(hook.asked == 1))
        gc.collect()
        held = sum(isinstance(each, Flood) for each in gc.get_objects())
        hook.open.set()
        assert held <= len(floods) + MOST_FLOODS + 1, "those that are shown, and those that wait to be told of"


async def test_only_so_many_are_known_to_go_on_and_only_while_they_do(store: Store) -> None:
    going, floods = GoingOn(store, most=3), [flood(number, "a.example") for number in range(5)]
    for each in floods:
        going.told(Announcement(f"flood {each.name}", each.since, each.last), each)
    assert len(going) == 3
    floods[-1].last += 2 * QUIET
    await going.write(NOW + 2 * QUIET)
    assert len(going) == 1
    floods.clear()
    del each
    gc.collect()
    await going.write(NOW + 2 * QUIET)
    assert len(going) == 0


WRONG = (
    *("https://hooks..example.com/x", "https://.example.com/", "https://" + "x" * 64 + ".example/", "https:///x"),
    *("http://[::1/", "http://127.0.0.1:99999/", "http://h:abc/", "http://a b/", "ftp://h/", "h/x", "http://h:0/"),
    "https://" + "x." * 130 + "example/",
)


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_can_not_be_asked_is_refused_at_the_start(tmp_path: Path, trusted: Authority, url: str) -> None:
    with pytest.raises(RequestError, match="a webhook's URL") as refused:
        laboratory(tmp_path, trusted, webhooks=("https://hooks.example/", url), webhook_secret=tmp_path / "secret")
    assert url not in str(refused.value), "there may be a secret in it"


@pytest.mark.parametrize("host", ["hooks.example.com.", "127.0.0.1:9", "[::1]:9", "bücher.example", "u:p@a_b.example"])
def test_a_url_of_any_host_there_may_be_is_taken(tmp_path: Path, trusted: Authority, host: str) -> None:
    laboratory(tmp_path, trusted, webhooks=(f"https://{host}/x",), webhook_secret=tmp_path / "secret")


async def test_a_host_that_no_resolver_takes_ends_nothing_and_is_told_of_once(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    """However it came to be asked."""
    impossible = Hook("https://hooks..example.com/x")
    async with replica(store, impossible) as one:
        one.hooks.tell(flood(1, "a.example"))
        one.hooks.tell(flood(2, "a.example"))
        await until(lambda: _is(one.outcome("given-up") == 2))
    assert one.outcome("tried-again") == 2
    assert [each.getMessage() for each in caplog.records] == ["a webhook has failed: UnicodeError"]


def test_a_claim_lasts_for_longer_than_all_tries() -> None:
    tries = sum(webhooks.BACKOFF) + webhooks.PATIENCE * (len(webhooks.BACKOFF) + 1)
    assert tries * 1_000_000 < LEASE


async def test_changed_keys_are_logged_and_told(
    tmp_path: Path, trusted: Authority, publisher: Publisher, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    settings = laboratory(tmp_path, trusted, publisher, webhooks=(hook.url,), webhook_secret=secret)
    async with started(settings) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        former, publisher.ring = publisher.ring, KeyRing(new_key())
        assert (await post(receiver.http, publisher.signed())).status_code == 403
        await until(lambda: _is(hook.targets[publisher.domain] == 1))
    (told,) = [each for each in hook.came if each["event"] == "changed-keys"]
    assert told["keys"] == [publisher.ring.signing.thumbprint()]
    warnings = [each.getMessage() for each in caplog.records if "--repin" in each.getMessage()]
    assert len(warnings) == 1
    assert f"{publisher.domain} publishes none" in warnings[0]
    assert json.dumps(told).count(former.signing.thumbprint()) == 0


async def _is(true: bool) -> bool:
    return true
