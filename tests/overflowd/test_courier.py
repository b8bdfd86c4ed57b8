"""A notice chosen is sent or accounted for, by every way there is, to real receivers; killed at any moment, it is sent
at most once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import signal
import socket
import sys
from collections import Counter
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from jfe_cni.errors import RequestError, StoreError
from jfe_cni.overflowd.delivery import open_delivery
from jfe_cni.overflowd.delivery.outcomes import State
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.delivery.sizes import KEY_TRIES, UDP_TRIES
from jfe_cni.overflowd.notices import keys, messages, optout, sealing
from jfe_cni.overflowd.notices.notice import End, Notice, new_nonce
from jfe_cni.overflowd.notices.signing import key_named, verified
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.faults import Unauthenticated
from tests.overflowd.couriers import RING, Row, delivering, ended, rows, settings
from tests.overflowd.receivers import Reply, silent, taking, udp_receiver
from tests.overflowd.test_delivery_http import answering, self_signed, server
from tests.overflowd.test_notices import NOTICE
from tests.ratelock.served import served

# As many as a budget of one address lets through at once, in a network of its own.
ADDRESSES = [f"127.1.{number}.1" for number in range(100)]


def to(*addresses: str) -> list[Notice]:
    """One for each: the source is one's own, and is told nothing."""
    source = ip_address("198.51.100.1")
    return [
        dataclasses.replace(
            NOTICE,
            flow=dataclasses.replace(NOTICE.flow, source=source, destination=ip_address(address)),
            nonce=new_nonce(),
        )
        for address in addresses
    ]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


OWN = (State.WITHHELD, "own", None)


async def test_both_ends_are_told_and_each_is_verified_by_the_reporters_key(state_url: str, tmp_path: Path) -> None:
    async with udp_receiver(taking, "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, own=(), udp_port=receiver.port)
        [notice] = to("127.0.0.9")
        flow = dataclasses.replace(notice.flow, source=ip_address("127.0.0.8"))
        registry = CollectorRegistry()
        async with delivering(wanted, registry) as (delivery, _):
            await delivery.outbox.put([dataclasses.replace(notice, flow=flow)])
            assert await ended(state_url, 2) == {(State.SENT, None, "udp"): 2}
        known = {RING.signing.thumbprint(): RING.signing}
        told = [verified(raw, known) for raw in receiver.got]
        assert {each.to for each in told if isinstance(each, Notice)} == set(End)
        labels = {"state": "sent", "reason": "", "way": "udp"}
        assert registry.get_sample_value("overflowd_copies_total", labels) == 2
        assert registry.get_sample_value("overflowd_tries_total", {"way": "udp", "heard": "taken"}) == 2
        octets = registry.get_sample_value("overflowd_sent_octets_total", {"way": "udp"})
        assert octets == sum(len(raw) + 28 + 20 * (len(raw) > 548) for raw in receiver.got)


@pytest.mark.parametrize("ways", [("udp", "http"), DeliverySettings().ways])
async def test_where_udp_is_not_listened_to_http_is_tried_and_is_sealed_to(
    ways: tuple[str, ...], state_url: str, tmp_path: Path
) -> None:
    key = sealing.new_key()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"keys": [sealing.published(key)]})
        return web.Response(status=202)

    async with server(handler) as receiver:
        ports = {"udp_port": free_port(), "https_port": free_port(), "http_port": receiver.port}
        async with delivering(settings(state_url, tmp_path, ways=ways, **ports)) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(state_url, 2))[(State.SENT, None, "http")] == 1
    assert [each[:2] for each in receiver.got] == [
        ("GET", keys.PUBLISHED), ("POST", "/.well-known/overflowd/notices"),
    ]  # fmt: skip
    opened = sealing.unseal(receiver.got[1][3], {key.thumbprint(): key})
    assert isinstance(opened, bytes)
    assert isinstance(verified(opened, {RING.signing.thumbprint(): RING.signing}), Notice)


async def test_who_does_not_answer_when_its_key_is_asked_for_is_told_nothing_in_clear(
    sqlite_url: str, tmp_path: Path
) -> None:
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with server(hang_up) as receiver:
        plenty = {"address_budget": "9/10s"}
        wanted = settings(sqlite_url, tmp_path, ways=("http",), http_port=receiver.port, **plenty)
        async with delivering(wanted) as (delivery, _):
            for count in (1, 2):
                await delivery.outbox.put(to("127.0.0.1"))
                assert (await ended(sqlite_url, 2 * count))[(State.FAILED, "no-answer", "http")] == count
    assert [each[0] for each in receiver.got] == ["GET"] * KEY_TRIES * 2, "that it has none was not said"


async def test_by_udp_too_it_is_sealed_where_that_is_asked_for(sqlite_url: str, tmp_path: Path) -> None:
    key = sealing.new_key()
    document = json.dumps({"keys": [sealing.published(key)]}).encode()
    async with (
        udp_receiver(taking) as receiver,
        server(answering(200, document), secured=self_signed(tmp_path)) as publisher,
    ):
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port, https_port=publisher.port, sealing="always")
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(sqlite_url, 2))[(State.SENT, None, "udp")] == 1
    assert [each[:2] for each in publisher.got] == [("GET", keys.PUBLISHED)]
    opened = sealing.unseal(receiver.got[0], {key.thumbprint(): key})
    assert isinstance(opened, bytes)
    assert isinstance(verified(opened, {RING.signing.thumbprint(): RING.signing}), Notice)


async def test_nothing_is_sealed_where_it_is_said_never_to_be(sqlite_url: str, tmp_path: Path) -> None:
    async with server(answering(202)) as receiver:
        wanted = settings(sqlite_url, tmp_path, ways=("http",), http_port=receiver.port, sealing="never")
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            await ended(sqlite_url, 2)
    assert [each[0] for each in receiver.got] == ["POST"]
    assert not sealing.is_sealed(receiver.got[0][3])


async def test_who_asks_to_be_left_alone_is_from_then_on_after_a_restart_too(state_url: str, tmp_path: Path) -> None:
    key = keys.new_key()

    def refuse(raw: bytes) -> list[bytes]:
        of = messages.digest(raw)
        return [messages.encode(messages.OptOut(of, optout.sign(of, key, prefix_length=24).encode()))]

    async with udp_receiver(refuse, "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port)
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(state_url, 2))[(State.SENT, "opted-out", "udp")] == 1
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1", "127.0.0.77", "127.0.1.1"))
            found = await ended(state_url, 8)
            assert found[(State.WITHHELD, "opted-out", None)] == 2
            assert found[(State.SENT, "opted-out", "udp")] == 2, "another network has not asked before"
            for network in ("127.0.0.0/24", "127.0.0.1/32"):
                assert await delivery.left_alone.lift(ip_network(network))
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(state_url, 10))[(State.SENT, "opted-out", "udp")] == 3
    assert len(set(receiver.got)) == 3


async def test_an_address_that_is_not_there_is_left_alone_for_a_while(state_url: str, tmp_path: Path) -> None:
    wanted = settings(state_url, tmp_path, ways=("udp", "http"), udp_port=free_port(), http_port=free_port())
    async with delivering(wanted) as (delivery, _):
        await delivery.outbox.put(to("127.0.0.1"))
        assert (await ended(state_url, 2))[(State.FAILED, "port-unreachable", "http")] == 1
        await delivery.outbox.put(to("127.0.0.1"))
        assert (await ended(state_url, 4))[(State.WITHHELD, "unreachable", None)] == 1


async def test_no_more_is_sent_than_the_budgets_allow(state_url: str, tmp_path: Path) -> None:
    async with udp_receiver(taking, "0.0.0.0") as receiver:
        wanted = settings(
            state_url, tmp_path, udp_port=receiver.port, total_budget="12/1h", prefix_budget="5/1h",
            address_budget="2/1h",
        )  # fmt: skip
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to(*["127.0.0.1"] * 5))
            found = await ended(state_url, 10)
            assert found[(State.SENT, None, "udp")] == 2
            assert found[(State.WITHHELD, "address-budget", None)] == 3
            await delivery.outbox.put(to(*[f"127.0.0.{number}" for number in range(2, 12)]))
            found = await ended(state_url, 30)
            assert found[(State.SENT, None, "udp")] == 5
            assert found[(State.WITHHELD, "prefix-budget", None)] == 7
            await delivery.outbox.put(to(*ADDRESSES[:20]))
            found = await ended(state_url, 70)
            assert found[(State.SENT, None, "udp")] == 12 == len(set(receiver.got))
            assert found[(State.WITHHELD, "total-budget", None)] == 13


async def test_the_service_of_ratelock_holds_the_budgets_where_it_is_named(sqlite_url: str, tmp_path: Path) -> None:
    async with udp_receiver(taking) as receiver, served(tmp_path) as service:
        token = tmp_path / "token"
        token.write_text(service.caller + "\n")
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port, ratelock=service.url, ratelock_token=token)
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to(*["127.0.0.1"] * 5))
            found = await ended(sqlite_url, 10)
        assert found[(State.SENT, None, "udp")] == 3 == len(set(receiver.got))
        assert found[(State.WITHHELD, "address-budget", None)] == 2


async def test_where_the_budgets_can_not_be_asked_nothing_is_sent_and_nothing_is_lost(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with udp_receiver(taking) as receiver:
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port, ratelock=f"unix:{tmp_path}/nobody")
        async with delivering(wanted) as (delivery, running):
            await delivery.outbox.put(to("127.0.0.1"))
            await ended(sqlite_url, 1)
            # It is taken, the budgets are asked for it, and it is given back.
            await asyncio.sleep(3)
            assert not running.done()
        assert receiver.got == []
        assert await rows(sqlite_url) == [OWN, (State.WAITING, None, None)]


async def test_a_token_that_ratelock_does_not_know_ends_it_and_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("none")
    async with udp_receiver(taking) as receiver, served(tmp_path) as service:
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port, ratelock=service.url, ratelock_token=token)
        async with open_delivery(wanted, RING, CollectorRegistry()) as delivery:
            await delivery.outbox.put(to("127.0.0.1"))
            with pytest.raises(Unauthenticated):
                await delivery.courier.run()
        assert receiver.got == []
        assert await rows(sqlite_url) == [OWN, (State.WAITING, None, None)]


async def test_a_silent_receiver_is_sent_to_twice_and_not_by_the_same_way_again(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with udp_receiver(silent) as receiver:
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port)
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(sqlite_url, 2))[(State.FAILED, "no-answer", "udp")] == 1
        async with delivering(wanted):
            assert len(receiver.got) == 2


async def test_what_is_larger_than_its_flow_is_not_sent(sqlite_url: str, tmp_path: Path) -> None:
    async with udp_receiver(taking) as receiver:
        [notice] = to("127.0.0.1")
        small = dataclasses.replace(
            notice, odds=0.01, flow=dataclasses.replace(notice.flow, packets=1, octets=40, sampling=1)
        )
        async with delivering(settings(sqlite_url, tmp_path, udp_port=receiver.port)) as (delivery, _):
            await delivery.outbox.put([small])
            assert (await ended(sqlite_url, 2))[(State.WITHHELD, "larger-than-its-flow", None)] == 1
        assert receiver.got == []


async def test_cancelled_it_finishes_what_is_under_way_and_leaves_the_rest_waiting(
    state_url: str, tmp_path: Path
) -> None:
    async with udp_receiver(silent, "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port, concurrency=2)
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to(*ADDRESSES[:10]))
            await receiver.came.wait()
        found = Counter(row[0] for row in await rows(state_url))
        assert found[State.SENDING] == found[State.UNKNOWN] == 0
        assert found[State.FAILED] >= 1
        assert found[State.WAITING] >= 1


async def test_what_does_not_end_in_time_is_accounted_for_as_unknown(sqlite_url: str, tmp_path: Path) -> None:
    async with udp_receiver(silent) as receiver:
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port, delivery_timeout=0.001)
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to("127.0.0.1"))
            await receiver.came.wait()
        assert (State.UNKNOWN, "interrupted", None) in await rows(sqlite_url)


def words_of(wanted: DeliverySettings, folder: Path) -> list[str]:
    """A courier that can be killed, by the keys in the folder."""
    given = json.dumps(dataclasses.asdict(wanted), default=str)
    return [sys.executable, "-m", "tests.overflowd.couriers", given, f"{folder}/keys.json"]


async def test_killed_between_sending_and_its_outcome_a_copy_is_unknown_and_never_sent_again(
    state_url: str, tmp_path: Path
) -> None:
    """By SIGKILL, when the datagram has come and no answer has gone back."""
    ring = keys.read_or_make(tmp_path / "keys.json")
    async with udp_receiver(silent, "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port)
        async with open_delivery(wanted, ring, CollectorRegistry()) as delivery:
            await delivery.outbox.put(to("127.0.0.1"))
        process = await asyncio.create_subprocess_exec(*words_of(wanted, tmp_path))
        try:
            async with asyncio.timeout(60):
                await receiver.came.wait()
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        receiver.drain()
        came = len(receiver.got)
        assert came in {1, 2}
        assert (State.SENDING, None, None) in await rows(state_url)
        receiver.came.clear()
        async with delivering(wanted, ring=ring) as (delivery, _):
            await delivery.outbox.put(to("127.1.1.1"))
            await receiver.came.wait()
            assert (await ended(state_url, 4))[(State.UNKNOWN, "interrupted", None)] == 1
        assert receiver.got.count(receiver.got[0]) == came


async def test_killed_again_and_again_each_copy_is_sent_at_most_once_or_accounted_for(
    state_url: str, tmp_path: Path
) -> None:
    ring = keys.read_or_make(tmp_path / "keys.json")
    async with udp_receiver(taking, "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port, concurrency=4, total_budget="1000/1s")
        async with open_delivery(wanted, ring, CollectorRegistry()) as delivery:
            await delivery.outbox.put(to(*ADDRESSES))
        words = words_of(wanted, tmp_path)
        lives = [0]
        for some in (5, 20, 40):
            process = await asyncio.create_subprocess_exec(*words)
            try:
                async with asyncio.timeout(60):
                    while len(receiver.got) < some:
                        receiver.came.clear()
                        await receiver.came.wait()
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            # What it has sent waits in the socket still.
            receiver.drain()
            lives.append(len(receiver.got))
        async with delivering(wanted, ring=ring):
            found = await ended(state_url, 200)
    sent, unknown = found[(State.SENT, None, "udp")], found[(State.UNKNOWN, "interrupted", None)]
    assert sent + unknown + found[OWN] == 200, found
    assert unknown <= 3 * 4, "no more than were under way"
    assert sent <= len(set(receiver.got)) <= sent + unknown
    assert max(Counter(receiver.got).values()) <= UDP_TRIES
    # What one life has sent is sent in no other.
    for life, other in itertools.combinations(itertools.pairwise([*lives, len(receiver.got)]), 2):
        assert not set(receiver.got[slice(*life)]) & set(receiver.got[slice(*other)])


async def test_when_the_key_is_rotated_the_new_one_signs(sqlite_url: str, tmp_path: Path) -> None:
    new = keys.new_key()
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(udp_receiver(taking))
        wanted = settings(sqlite_url, tmp_path, udp_port=receiver.port)
        delivery, _ = await stack.enter_async_context(delivering(wanted))
        await delivery.outbox.put(to("127.0.0.1"))
        await ended(sqlite_url, 2)
        delivery.courier.sign_by(keys.KeyRing(new, ((RING.signing, 1 << 40),)))
        await delivery.outbox.put(to("127.0.0.1"))
        await ended(sqlite_url, 4)
    assert list(dict.fromkeys(key_named(raw) for raw in receiver.got)) == [RING.signing.thumbprint(), new.thumbprint()]


async def test_a_database_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """Sent in between is what had been taken before, and is accounted for when the database is back."""
    with postgresql.server() as database:
        url = database.database()
        async with udp_receiver(silent, "0.0.0.0") as receiver:
            wanted = settings(url, tmp_path, udp_port=receiver.port, concurrency=1)
            async with delivering(wanted) as (delivery, running):
                await delivery.outbox.put(to(*ADDRESSES[:2]))
                await receiver.came.wait()
                await asyncio.to_thread(database.stop, signal.SIGQUIT)
                with pytest.raises(StoreError):
                    await delivery.outbox.put(to(ADDRESSES[2]))
                await asyncio.to_thread(database.start)
                found = await ended(url, 4)
                assert not running.done()
        # Sent again is none: of each no more than its two tries.
        assert found == {OWN: 2, (State.FAILED, "no-answer", "udp"): 2}
        assert max(Counter(receiver.got).values()) <= 2


async def test_a_database_that_is_away_for_longer_than_the_patience_loses_neither_outcome_nor_opt_out(
    tmp_path: Path,
) -> None:
    key = keys.new_key()
    asking = asyncio.Event()

    def refuse(raw: bytes) -> list[bytes]:
        asking.set()
        of = messages.digest(raw)
        return [messages.encode(messages.OptOut(of, optout.sign(of, key).encode()))] if gone else []

    gone = False
    with postgresql.server() as database:
        url = database.database()
        async with udp_receiver(refuse, "0.0.0.0") as receiver:
            registry = CollectorRegistry()
            wanted = settings(url, tmp_path, udp_port=receiver.port, concurrency=2)
            async with delivering(wanted, registry, patience=(0.01,)) as (delivery, running):
                await delivery.outbox.put(to(*ADDRESSES[:1]))
                await asking.wait()
                # It is under way; from now on nobody takes what is heard of it.
                await asyncio.to_thread(database.stop, signal.SIGQUIT)
                gone = True
                async with asyncio.timeout(60):
                    while registry.get_sample_value("overflowd_copies_sending") != 0:  # noqa: ASYNC110 - a gauge
                        await asyncio.sleep(0.05)
                await asyncio.to_thread(database.start)
                assert (await ended(url, 2))[(State.SENT, "opted-out", "udp")] == 1
                await delivery.outbox.put(to(*ADDRESSES[:1]))
                assert (await ended(url, 4))[(State.WITHHELD, "opted-out", None)] == 1
                assert not running.done()
                labels = {"state": "sent", "reason": "opted-out", "way": "udp"}
                assert registry.get_sample_value("overflowd_copies_total", labels) == 1


async def test_collectors_with_keys_of_their_own_each_send_what_is_signed_by_theirs(
    postgresql_url: str, tmp_path: Path
) -> None:
    rings = {name: keys.read_or_make(tmp_path / f"{name}.json") for name in ("one", "two")}
    known = {name: {ring.signing.thumbprint(): ring.signing} for name, ring in rings.items()}
    published = {name: f"https://{name}.example/.well-known/overflowd/keys.json" for name in rings}
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(udp_receiver(taking, "0.0.0.0"))
        for name, ring in rings.items():
            wanted = settings(
                postgresql_url, tmp_path, collector=name, udp_port=receiver.port, budgets=f"sqlite:///{tmp_path}/{name}.db"
            )  # fmt: skip
            delivery, _ = await stack.enter_async_context(delivering(wanted, ring=ring))
            reporter = dataclasses.replace(NOTICE.reporter, keys=published[name])
            notices = [dataclasses.replace(each, reporter=reporter) for each in to(*ADDRESSES[:40])]
            if name == "one":
                first, many = delivery, notices
        # While both look for copies.
        await asyncio.gather(first.outbox.put(many), delivery.outbox.put(notices))
        await ended(postgresql_url, 160)
    for name in rings:
        told = [verified(raw, known[name]) for raw in set(receiver.got)]
        assert {each.reporter.keys for each in told if isinstance(each, Notice)} == {published[name]}
        assert sum(isinstance(each, Notice) for each in told) == 40


def living_among_dead(living: str) -> Reply:
    """One address answers, and no other."""

    def reply(raw: bytes) -> list[bytes]:
        notice = verified(raw, {RING.signing.thumbprint(): RING.signing})
        return taking(raw) if isinstance(notice, Notice) and str(notice.flow.destination) == living else []

    return reply


async def sent(state_url: str, count: int) -> Counter[Row]:
    """When so many have been taken."""
    async with asyncio.timeout(60):
        while True:
            found = Counter(await rows(state_url))
            if found[(State.SENT, None, "udp")] >= count:
                return found
            await asyncio.sleep(0.05)


async def test_what_comes_last_does_not_wait_for_all_the_dead_before_it(state_url: str, tmp_path: Path) -> None:
    async with udp_receiver(living_among_dead("127.8.8.8"), "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port, concurrency=4, total_budget="1000/1s")
        async with delivering(wanted) as (delivery, _):
            await delivery.outbox.put(to(*ADDRESSES[:60]))
            await receiver.came.wait()
            await delivery.outbox.put(to("127.8.8.8"))
            assert (await sent(state_url, 1))[(State.FAILED, "no-answer", "udp")] <= 12


async def test_who_has_answered_before_does_not_wait_for_the_dead_at_all(state_url: str, tmp_path: Path) -> None:
    async with udp_receiver(living_among_dead("127.8.8.8"), "0.0.0.0") as receiver:
        wanted = settings(state_url, tmp_path, udp_port=receiver.port, concurrency=4, total_budget="1000/1s", own=())
        async with delivering(wanted) as (delivery, _):
            [first, *later] = [
                dataclasses.replace(each, flow=dataclasses.replace(each.flow, source=ip_address("127.8.8.8")))
                for each in to("127.8.8.8", "127.8.8.8", "127.8.8.8")
            ]
            await delivery.outbox.put([first])
            await sent(state_url, 2)
            # Among the dead, neither the newest nor the oldest.
            await delivery.outbox.put([*to(*ADDRESSES[:40]), *later[:1], *to(*ADDRESSES[40:80])])
            assert (await sent(state_url, 3))[(State.FAILED, "no-answer", "udp")] <= 12


async def test_it_ends_in_time_though_the_database_is_away(tmp_path: Path) -> None:
    """What could not be written is not waited for longer than for what is under way."""
    with postgresql.server() as database:
        url = database.database()
        async with udp_receiver(silent, "0.0.0.0") as receiver:
            wanted = settings(url, tmp_path, udp_port=receiver.port, delivery_timeout=0.5)
            async with open_delivery(wanted, RING, CollectorRegistry(), patience=(3_600.0,)) as delivery:
                running = asyncio.create_task(delivery.courier.run())
                await delivery.outbox.put(to(*ADDRESSES[:5]))
                await receiver.came.wait()
                await asyncio.to_thread(database.stop, signal.SIGQUIT)
                running.cancel()
                # A pause of an hour is not waited for.
                async with asyncio.timeout(60):
                    await asyncio.gather(running, return_exceptions=True)
                await asyncio.to_thread(database.start)
            # The next life knows.
            async with delivering(wanted):
                found = await ended(url, 10)
    assert found[OWN] + found[(State.UNKNOWN, "interrupted", None)] + found[(State.FAILED, "no-answer", "udp")] == 10


async def test_two_collectors_on_one_database_send_each_copy_once(postgresql_url: str, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(udp_receiver(taking, "0.0.0.0"))
        deliveries = []
        for name in ("one", "two"):
            wanted = settings(
                postgresql_url, tmp_path, collector=name, udp_port=receiver.port, concurrency=4,
                budgets=f"sqlite:///{tmp_path}/{name}.db",
            )  # fmt: skip
            delivery, _ = await stack.enter_async_context(delivering(wanted))
            deliveries.append(delivery)
        for number, address in enumerate(ADDRESSES[:40]):
            await deliveries[number % 2].outbox.put(to(address))
        found = await ended(postgresql_url, 80)
    assert found == {OWN: 40, (State.SENT, None, "udp"): 40}
    assert len(set(receiver.got)) == 40
    assert max(Counter(receiver.got).values()) <= UDP_TRIES


@pytest.mark.parametrize(
    "changed",
    [
        {"ways": ()},
        {"ways": ("pigeon",)},
        {"ways": ("mail",)},
        {"own": ("10.0.0.1/8",)},
        {"told": ("everybody",)},
        {"address_budget": "many"},
        {"udp_port": 70_000},
        {"outbox_limit": 0},
        {"state": "sqlite:////tmp/one.db", "budgets": "sqlite:////tmp/one.db"},
        {"ratelock": "unix:/nobody", "ratelock_token": Path("/no/such/file")},
        {"ways": ("mail",), "smtp": "nobody", "mail_from": "a@b.example", "rdap": ("/no/such/file",)},
    ],
)
async def test_settings_that_do_not_fit_are_said_to(
    changed: dict[str, object], sqlite_url: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError):
        async with open_delivery(settings(sqlite_url, tmp_path, **changed), RING, CollectorRegistry()):
            pass
