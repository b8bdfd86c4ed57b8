"""The receiver as a whole: over real sockets, with a real publisher of keys, on real stores."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from aiohttp import web
from joserfc.jwk import OKPKey
from starlette.types import Receive, Scope, Send

from jfe_cni.errors import HostError, RequestError
from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH, Ports, open_http
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.notices import messages, optout, sealing
from jfe_cni.overflowd.notices.keys import PUBLISHED, KeyRing, new_key
from jfe_cni.overflowd.notices.messages import LARGEST_MESSAGE, Challenge, OptOut, Sent, Taken, digest
from jfe_cni.overflowd.notices.notice import Notice, encode
from jfe_cni.overflowd.notices.signing import TYPE
from jfe_cni.overflowd.receiver.api.problems import REASONS, TAG, not_taken
from jfe_cni.overflowd.receiver.reception import INTRODUCTIONS
from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.serving import server_tls, serving
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.receiver.tables import TABLES
from jfe_cni.ratelock.demo import postgresql
from tests.overflowd.receiving import (
    DEADLINE,
    LOOPBACK,
    Authority,
    Publisher,
    Sender,
    client,
    floods,
    laboratory,
    metric,
    notices,
    post,
    started,
    until,
)
from tests.overflowd.test_notices import NOTICE

HOUR = 3_600_000_000


async def test_a_reporter_that_shows_where_it_is_is_heard_and_then_known(
    receiver: Receiver, publisher: Publisher
) -> None:
    first, second = publisher.signed(), publisher.signed()
    with Sender(receiver.udp) as sender:
        assert await sender.introduce(first) == Taken(digest(first))
        assert await sender.ask(second) == Taken(digest(second)), "by its key alone"
        assert await sender.ask(second) == Taken(digest(second)), "its answer was lost, perhaps"
    assert publisher.asked == 1
    assert len(await notices(receiver)) == 2
    assert await metric(receiver, "notices", "replayed") == 1


async def test_whoever_sends_in_anothers_name_has_nothing_fetched(receiver: Receiver, publisher: Publisher) -> None:
    """Who is not at an address does not see what is sent there: it can guess, or use what it got for its own."""
    signed = publisher.signed()
    with Sender(receiver.udp) as spoofer, Sender(receiver.udp) as own:
        challenge = await own.ask(signed)
        assert isinstance(challenge, Challenge)
        for cookie in ("A" * 24, challenge.cookie):
            assert isinstance(await spoofer.ask(messages.encode(Sent(signed, cookie))), Challenge)
        for _ in range(50):
            assert isinstance(await spoofer.ask(publisher.signed(new_key())), Challenge)
    assert publisher.asked == 0
    assert await notices(receiver) == []


async def test_no_answer_is_larger_than_what_it_answers(receiver: Receiver, publisher: Publisher) -> None:
    signed = publisher.signed()
    with Sender(receiver.udp) as sender:
        sender.send(signed)
        challenge = await sender.hear()
        echo = messages.encode(Sent(signed, challenge.split()[2].decode()))
        sender.send(echo)
        thanks = await sender.hear()
        assert len(challenge) < len(signed)
        assert len(thanks) < len(echo)
        # What is no notice has no answer at all: the next answer is the next notice's.
        for garbage in (b"", b"x", b"." * 40, b"overflowd1 taken " + b"A" * 22, bytes(60_000), b"a.b.c"):
            sender.send(garbage)
        assert await sender.ask(signed) == Taken(digest(signed))


async def test_no_more_is_fetched_than_came(receiver: Receiver, publisher: Publisher) -> None:
    async def large(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({**publisher.ring.published(0), "more": "x" * 8_000})

    publisher.answer = large
    with Sender(receiver.udp) as sender:
        signed = publisher.signed()
        challenge = await sender.ask(signed)
        assert isinstance(challenge, Challenge)
        sender.send(messages.encode(Sent(signed, challenge.cookie)))
        await until(lambda: metric(receiver, "key_fetches", "too-large"))
    assert publisher.asked == 1
    assert await metric(receiver, "notices", "no-key") == 1


async def test_what_was_taken_is_a_replay_after_a_restart(settings: ReceiverSettings, publisher: Publisher) -> None:
    signed = publisher.signed()
    async with started(settings) as receiver:
        assert (await post(receiver.http, signed)).status_code == 200
    async with started(settings) as receiver:
        again = await post(receiver.http, signed)
        assert again.content == messages.encode(Taken(digest(signed))), "it has it: nothing more is to be tried"
        assert await metric(receiver, "notices", "replayed") == 1
        assert len(await notices(receiver)) == 1
    assert publisher.asked == 1, "its key was kept as well"


@pytest.mark.parametrize(
    ("forged", "status", "reason"),
    [
        (lambda p: _without_algorithm(p.ring.signing, p.notice()), 400, "wrong-algorithm"),
        (lambda p: p.signed()[:-20] + b"A" * 20, 403, "wrong-signature"),
        (lambda p: p.signed(new_key()), 503, "no-key"),
        (lambda p: p.signed(made=time.time_ns() // 1_000 - 25 * HOUR), 422, "too-old"),
        (lambda p: p.signed(made=time.time_ns() // 1_000 + 3 * HOUR), 422, "from-the-future"),
        (lambda p: b"garbage", 400, "no-message"),
        (lambda p: b"a.b.c", 400, "no-jws"),
        (lambda p: sealing.seal(p.signed(), _public(sealing.new_key())), 403, "unknown-key"),
    ],
)
async def test_what_is_not_in_order_is_refused_with_its_reason(
    receiver: Receiver, publisher: Publisher, forged: Callable[[Publisher], bytes], status: int, reason: str
) -> None:
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    answer = await post(receiver.http, forged(publisher))
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, TAG + reason)
    assert await metric(receiver, "notices", reason) == 1
    assert len(await notices(receiver)) == 1


@pytest.mark.parametrize("off", [-HOUR, HOUR])
async def test_a_clock_an_hour_off_is_heard(receiver: Receiver, publisher: Publisher, off: int) -> None:
    assert (await post(receiver.http, publisher.signed(made=time.time_ns() // 1_000 + off))).status_code == 200


async def test_a_body_of_10_mb_is_refused_unread(receiver: Receiver) -> None:
    host, port = receiver.http.removeprefix("http://").split(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\n"
    # Its length is told: the answer comes before a byte of it.
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}Content-Length: 10000000\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        await reader.read()
    writer.close()
    # It isn't: no more is taken than a notice may have, and what was being sent is cut off.
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000_000 // 1_000):
            writer.write(b"3e8\r\n" + bytes(1_000) + b"\r\n")
            await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
    writer.close()
    too_large = await post(receiver.http, bytes(LARGEST_MESSAGE + 1))
    assert (too_large.status_code, too_large.json()["type"]) == (413, TAG + "body-too-large")


async def test_what_is_asked_otherwise_is_a_problem_of_its_own(receiver: Receiver, publisher: Publisher) -> None:
    async with client(receiver.http) as http:
        wrong_type = await http.post(PATH, content=publisher.signed(), headers={"content-type": "text/plain"})
        assert (wrong_type.status_code, wrong_type.json()["type"]) == (415, TAG + "unsupported-media-type")
        assert (await http.get(PATH)).status_code == 405
        for hidden in ("/", "/metrics", "/api/notices", "/api/floods", "/events", "/docs"):
            found = await http.get(hidden)
            assert (found.status_code, found.json()["type"]) == (404, TAG + "no-such-resource"), "not for everybody"
    async with client(receiver.page) as http:
        assert (await http.get("/api/notices", params={"most": 5_000})).json()["type"] == TAG + "unfit"
    assert {not_taken(each).status // 100 for each in REASONS} == {4, 5}


async def test_one_network_may_not_send_without_end(tmp_path: Path, trusted: Authority, publisher: Publisher) -> None:
    settings = laboratory(tmp_path, trusted, publisher, source_notices=3)
    async with started(settings) as receiver:
        found = [(await post(receiver.http, b"garbage")).status_code for _ in range(5)]
        assert found == [400, 400, 400, 429, 429]
        assert await metric(receiver, "notices", "too-many") == 2


async def test_a_notice_can_be_sealed_to_the_key_that_is_published(receiver: Receiver, publisher: Publisher) -> None:
    async with client(receiver.http) as http:
        answer = await http.get(PUBLISHED)
    assert answer.headers["content-type"] == "application/jwk-set+json"
    published = answer.json()
    assert {(each["use"], each["crv"]) for each in published["keys"]} == {("sig", "Ed25519"), ("enc", "X25519")}
    assert not any("d" in each for each in published["keys"])
    key = sealing.encryption_key(published)
    assert key is not None
    sealed = sealing.seal(publisher.signed(), key)
    with Sender(receiver.udp) as sender:
        assert await sender.introduce(sealed) == Taken(digest(sealed))
    assert len(await notices(receiver)) == 1


async def test_a_key_that_is_rotated_beside_the_former_is_believed(receiver: Receiver, publisher: Publisher) -> None:
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    publisher.ring = publisher.ring.rotated(int(time.time()))
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    assert await metric(receiver, "pins", "rotated") == 1


async def test_a_key_that_replaces_all_others_is_warned_of_until_a_person_says_yes(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    settings = laboratory(tmp_path, trusted, publisher)
    async with started(settings) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        former, publisher.ring = publisher.ring, KeyRing(new_key())
        refused = await post(receiver.http, publisher.signed())
        assert (refused.status_code, refused.json()["type"]) == (403, TAG + "key-changed")
        assert await metric(receiver, "pins", "changed") == 1
        async with client(receiver.page) as http:
            assert publisher.ring.signing.thumbprint() in (await http.get("/")).text
            (change,) = (await http.get("/api/floods")).json()["changed-keys"]
            assert (change["domain"], change["keys"]) == (publisher.domain, [publisher.ring.signing.thumbprint()])
        assert (await post(receiver.http, publisher.signed(former.signing))).status_code == 200
    repinned = laboratory(tmp_path, trusted, publisher, repin=(publisher.domain,))
    async with started(repinned) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        async with client(receiver.page) as http:
            assert "Changed keys" not in (await http.get("/")).text


async def test_whoever_wants_no_more_says_so_by_its_key(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    async with started(laboratory(tmp_path, trusted, publisher, opt_out=True)) as receiver:
        signed = publisher.signed()
        with Sender(receiver.udp) as sender:
            answer = await sender.introduce(signed)
        assert isinstance(answer, OptOut)
        asked = optout.asked(answer.signed, digest(signed))
        assert isinstance(asked, optout.OptOutAsked)
        async with client(receiver.http) as http:
            assert asked.key in {each["kid"] for each in (await http.get(PUBLISHED)).json()["keys"]}


async def test_what_delivers_notices_and_what_takes_them_in_understand_each_other(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    certificate, key = trusted.issue("receiver.example")
    given = {"https": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
    for opt_out, told in ((False, Told.TAKEN), (True, Told.OPTED_OUT)):
        settings = laboratory(tmp_path, trusted, publisher, opt_out=opt_out, **given)
        async with started(settings) as receiver, open_http(_ports(receiver)) as http:
            by_udp = await UdpWay(receiver.udp, (DEADLINE, DEADLINE)).tell(LOOPBACK, publisher.signed())
            by_http = [await http.tell(way, LOOPBACK, publisher.signed()) for way in (Way.HTTP, Way.HTTPS)]
            assert [each.told for each in (by_udp, *by_http)] == [told] * 3
            key_of_receiver = sealing.encryption_key(await http.published(Way.HTTP, LOOPBACK))
            assert key_of_receiver is not None
            sealed = sealing.seal(publisher.signed(), key_of_receiver)
            assert (await http.tell(Way.HTTP, LOOPBACK, sealed)).told is told
            assert len(await notices(receiver)) == (8 if opt_out else 4)


async def test_by_https_it_is_the_same(tmp_path: Path, trusted: Authority, publisher: Publisher) -> None:
    certificate, key = trusted.issue("receiver.example")
    given = {"https": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
    async with started(laboratory(tmp_path, trusted, publisher, **given)) as receiver:
        # TLS to a bare address proves nothing, and a sender does not ask it to.
        careless = ssl.create_default_context()
        careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
        assert (await post(receiver.https, publisher.signed(), verify=careless)).status_code == 200


async def test_behind_a_proxy_its_word_of_the_address_is_taken_and_nobody_elses(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    async def refused(receiver: Receiver) -> int:
        async with client(receiver.http) as http:
            found = [
                await http.post(
                    PATH, content=b"x", headers={"content-type": CONTENT_TYPE, "x-forwarded-for": f"192.0.{n}.1"}
                )
                for n in range(3)
            ]
        return sum(each.status_code == 429 for each in found)

    async with started(laboratory(tmp_path, trusted, publisher, source_notices=1)) as receiver:
        assert await refused(receiver) == 2
    trusting = laboratory(tmp_path, trusted, publisher, source_notices=1, proxies=("127.0.0.1",))
    async with started(trusting) as receiver:
        assert await refused(receiver) == 0


async def test_no_network_has_keys_fetched_without_end(receiver: Receiver, publisher: Publisher) -> None:
    """By many names of its own: each of them would be asked once."""
    found = [
        await post(receiver.http, publisher.signed(reporter=replace(NOTICE.reporter, keys=_renamed(publisher, n))))
        for n in range(INTRODUCTIONS.count + 4)
    ]
    assert [each.status_code for each in found] == [503] * INTRODUCTIONS.count + [429] * 4


@pytest.mark.parametrize("begun", [b"", b"POST /.well-known/overflowd/notices HTTP/1.1\r\nHost: "])
async def test_who_opens_a_connection_and_says_nothing_is_hung_up_on(begun: bytes) -> None:
    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was never asked for anything")

    async with serving(nothing, "127.0.0.1:0", idle=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(begun)
        async with asyncio.timeout(DEADLINE):
            assert await reader.read() == b""
        writer.close()


async def test_who_begins_tls_and_says_nothing_is_hung_up_on_as_soon(trusted: Authority) -> None:
    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was never asked for anything")

    secured = server_tls(*trusted.issue("receiver.example"))
    async with serving(nothing, "127.0.0.1:0", secured, idle=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        # The first record of a ClientHello, of which nothing follows.
        writer.write(bytes.fromhex("1603010200"))
        # Sooner than the minute that asyncio gives by itself.
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("address", ["127.0.0.5", "::1"])
async def test_an_answer_comes_from_the_address_that_was_asked(
    tmp_path: Path, trusted: Authority, publisher: Publisher, address: str
) -> None:
    """Of several that the host has: the sender's socket takes nothing from another."""
    async with started(laboratory(tmp_path, trusted, publisher, udp="[::]:0")) as receiver:
        signed = publisher.signed()
        with Sender(receiver.udp, address) as sender:
            assert await sender.introduce(signed) == Taken(digest(signed))


async def test_a_storm_of_garbage_in_the_name_of_others_does_not_keep_out_who_comes_by_http(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    draw = random.Random(1)
    async with started(laboratory(tmp_path, trusted, publisher, source_notices=1)) as receiver:
        with Sender(receiver.udp) as sender:
            for _ in range(5_000):
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    sender.send(draw.randbytes(draw.randrange(1_400)))
                await asyncio.sleep(0)
        assert await until(lambda: metric(receiver, "notices", "too-many"))
        assert publisher.asked == 0
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        assert len(await notices(receiver)) == 1


async def test_what_the_kernel_had_no_room_for_is_counted(receiver: Receiver) -> None:
    async def dropped() -> float:
        async with client(receiver.page) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        name = "overflowd_receiver_dropped_datagrams_total "
        with Sender(receiver.udp) as sender:
            sender.send(b"the kernel tells with the next one")
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    assert await dropped() == 0
    with Sender(receiver.udp) as sender:
        # The receiver runs in this very thread: nothing is read meanwhile.
        for _ in range(10_000):
            with contextlib.suppress(BlockingIOError):
                sender.send(bytes(8_192))
    assert await until(dropped) < 10_000


async def test_while_its_store_is_away_nothing_is_said_to_be_taken(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    with postgresql.server() as server:
        async with started(laboratory(tmp_path, trusted, publisher, store=server.database())) as receiver:
            assert (await post(receiver.http, publisher.signed())).status_code == 200
            await asyncio.to_thread(server.stop)
            signed = publisher.signed()
            away = await post(receiver.http, signed)
            assert (away.status_code, away.json()["type"]) == (503, TAG + "store")
            async with client(receiver.page) as http:
                assert (await http.get("/readyz")).status_code == 503
            await asyncio.to_thread(server.start)
            assert (await post(receiver.http, signed)).status_code == 200
            assert await metric(receiver, "notices", "replayed") == 0, "it had not been taken"
            assert len(await notices(receiver)) == 2
            for turn in (server.stop, server.start):
                await asyncio.to_thread(turn)
            assert (await post(receiver.http, publisher.signed())).status_code == 200, "unnoticed"


async def test_replicas_on_one_store_take_a_notice_once_and_show_the_same(
    tmp_path: Path, trusted: Authority, publisher: Publisher, postgresql_url: str
) -> None:
    settings = laboratory(tmp_path, trusted, publisher, store=postgresql_url)
    async with started(settings) as one, started(settings) as other:
        signed = publisher.signed()
        assert (await post(one.http, signed)).status_code == 200
        again = await post(other.http, signed)
        assert again.content == messages.encode(Taken(digest(signed)))
        assert await metric(other, "notices", "replayed") == 1
        assert (await post(other.http, publisher.signed())).status_code == 200

        async def both() -> bool:
            found = []
            for each in (one, other):
                async with client(each.page) as http:
                    found.append(await floods(http))
            return found[0] == found[1] and [each["notices"] for each in found[0]] == [2]

        assert await until(both)


async def test_what_comes_twice_at_once_is_said_to_be_taken_when_it_is(
    tmp_path: Path, trusted: Authority, publisher: Publisher, postgresql_url: str
) -> None:
    """While another holds the database up: nothing is durable yet."""
    async with started(laboratory(tmp_path, trusted, publisher, store=postgresql_url)) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        signed = publisher.signed()
        with psycopg.connect(postgresql_url, autocommit=True) as another:
            another.execute("SELECT pg_advisory_lock(%s)", [TABLES.lock])
            asking = [asyncio.create_task(post(receiver.http, signed)) for _ in range(2)]
            done, _ = await asyncio.wait(asking, timeout=0.5)
            assert not done
        assert [(await each).status_code for each in asking] == [200, 200]
        assert len(await notices(receiver)) == 2


async def test_a_port_that_is_taken_is_said_to_be(
    tmp_path: Path, trusted: Authority, publisher: Publisher, receiver: Receiver
) -> None:
    elsewhere = {"store": f"sqlite:///{tmp_path}/another.db"}
    with pytest.raises(HostError, match=f"UDP port {receiver.udp}"):
        async with started(laboratory(tmp_path, trusted, publisher, udp=f"127.0.0.1:{receiver.udp}", **elsewhere)):
            pass
    http = receiver.http.removeprefix("http://")
    with pytest.raises(RequestError, match="can't be listened on"):
        async with started(laboratory(tmp_path, trusted, publisher, http=http, **elsewhere)):
            pass


def _renamed(publisher: Publisher, number: int) -> str:
    return publisher.url.replace(publisher.domain, f"name-{number}.example")


def _ports(receiver: Receiver) -> Ports:
    https, http = (int(url.rpartition(":")[2]) for url in (receiver.https, receiver.http))
    return Ports(https, http)


def _without_algorithm(key: OKPKey, notice: Notice) -> bytes:
    header = {"alg": "none", "kid": key.thumbprint(), "typ": TYPE}
    parts = (json.dumps(header).encode(), encode(notice), b"")
    return b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in parts)


def _public(key: OKPKey) -> OKPKey:
    return OKPKey.import_key(key.as_dict(private=False))
