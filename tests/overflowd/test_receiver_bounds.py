"""Whoever holds connections, requests and the log holds its own share of them: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH
from jfe_cni.overflowd.receiver.api.boundary import NOSNIFF, Boundary
from jfe_cni.overflowd.receiver.api.intake import EACH
from jfe_cni.overflowd.receiver.api.problems import TAG
from jfe_cni.overflowd.receiver.complaints import IN_ALL, Complaints
from jfe_cni.overflowd.receiver.following import Following
from jfe_cni.overflowd.receiver.limits import AtOnce
from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.serving import OF_A_NETWORK, serving
from jfe_cni.overflowd.receiver.store import open_store
from tests.overflowd.receiving import DEADLINE, Authority, Publisher, laboratory, metric, post, started

# All of 127.0.0.0/8 is this host (RFC 1122, section 3.2.1.3): networks of /24 in it.
NEIGHBOUR = "127.0.7.1"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: 1000\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def connections(url: str, count: int, said: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """Of 127.0.0.1, as many as that, to each of which that was said."""
    host, port = url.partition("://")[2].split(":")
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.1", 0))
            stack.callback(writer.close)
            writer.write(said)
            readers.append(reader)
        yield readers


async def hung_up(readers: list[asyncio.StreamReader], count: int) -> list[bytes]:
    """What `count` of them got until they were hung up on."""

    async def read(reader: asyncio.StreamReader) -> bytes:
        # What was not read when the connection ended resets it (RFC 9293, section 3.6.1).
        try:
            return await reader.read()
        except ConnectionError:
            return b""

    reading = [asyncio.create_task(read(each)) for each in readers]
    ended = []
    try:
        async with asyncio.timeout(DEADLINE):
            for each in asyncio.as_completed(reading):
                ended.append(await each)
                if len(ended) == count:
                    break
    finally:
        for each in reading:
            each.cancel()
    return ended


async def from_neighbour(url: str, signed: bytes, verify: ssl.SSLContext | bool = True) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(local_address=NEIGHBOUR, verify=verify)
    return await post(url, signed, transport=transport)


async def test_who_holds_connections_holds_those_of_its_network(receiver: Receiver, publisher: Publisher) -> None:
    async with connections(receiver.http, 1_100) as readers:
        assert await hung_up(readers, 1_100 - OF_A_NETWORK) == [b""] * (1_100 - OF_A_NETWORK)
        assert (await from_neighbour(receiver.http, publisher.signed())).status_code == 200


async def test_who_begins_tls_and_goes_no_further_holds_the_places_of_its_network(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    certificate, key = trusted.issue("receiver.example")
    given = {"https": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    async with started(laboratory(tmp_path, trusted, publisher, **given)) as receiver:
        async with connections(receiver.https, 200) as readers:
            await hung_up(readers, 200 - OF_A_NETWORK)
            assert (await from_neighbour(receiver.https, publisher.signed(), careless)).status_code == 200
        # Places that were given back are had again, of handshakes that failed as well.
        for _ in range(3 * OF_A_NETWORK):
            with socket.create_connection(("127.0.0.1", int(receiver.https.rpartition(":")[2]))) as one:
                one.sendall(b"no TLS at all\r\n")
                one.settimeout(DEADLINE)
                await asyncio.to_thread(_read_to_the_end, one)
        assert (await post(receiver.https, publisher.signed(), verify=careless)).status_code == 200


def _read_to_the_end(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while connection.recv(4_096):
            pass


async def test_who_sends_no_body_holds_the_requests_of_its_network(receiver: Receiver, publisher: Publisher) -> None:
    async with connections(receiver.http, OF_A_NETWORK - 1, HEAD) as readers:
        busy = await asyncio.gather(*(asyncio.wait_for(each.readline(), DEADLINE) for each in readers[EACH:]))
        assert {line.split()[1] for line in busy} == {b"503"}
        assert (await from_neighbour(receiver.http, publisher.signed())).status_code == 200
        refused = await post(receiver.http, publisher.signed())
        assert (refused.status_code, refused.json()["type"]) == (503, TAG + "busy")
    for _ in range(2 * EACH):
        assert (await post(receiver.http, publisher.signed())).status_code == 200, "they are there again"


async def test_who_has_sent_too_many_is_told_before_its_body_is_waited_for(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    async with started(laboratory(tmp_path, trusted, publisher, source_notices=1)) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        async with connections(receiver.http, 1, HEAD) as (reader,), asyncio.timeout(DEADLINE):
            assert (await reader.readline()).split()[1] == b"429"
        assert await metric(receiver, "notices", "too-many") == 1


async def test_who_is_refused_and_sends_its_body_without_end_is_hung_up_on() -> None:
    async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was refused")

    refusing = Boundary(nothing, 1_000, NOSNIFF, frozenset({"another.example"}))
    async with serving(refusing, "127.0.0.1:0", idle=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            assert (await reader.readline()).split()[1] == b"421"
            with contextlib.suppress(ConnectionError):
                ended = asyncio.create_task(reader.read())
                while not ended.done():
                    writer.write(b"1\r\nx\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                await ended
        writer.close()


async def test_behind_a_proxy_each_network_has_its_own_requests(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    """And the proxy has as many connections as there are."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
    async with (
        started(laboratory(tmp_path, trusted, publisher, proxies=("127.0.0.0/24",))) as receiver,
        connections(receiver.http, 2 * OF_A_NETWORK, head) as readers,
    ):
        busy = await asyncio.gather(*(asyncio.wait_for(each.readline(), DEADLINE) for each in readers[EACH:]))
        assert {line.split()[1] for line in busy} == {b"503"}
        for forwarded, status in (("192.0.2.99", 503), ("198.51.100.1", 200)):
            given = {"content-type": CONTENT_TYPE, "x-forwarded-for": forwarded}
            async with httpx.AsyncClient(base_url=receiver.http, trust_env=False, timeout=DEADLINE) as http:
                assert (await http.post(PATH, content=publisher.signed(), headers=given)).status_code == status


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("unknown", 400), ("1.2.3.4.5", 400), ("_hidden", 400), ("[::1", 400), ("1.2.3.4:567", 200), ("2001:db8::1", 200)],
)
async def test_what_a_proxy_says_that_is_no_address_is_a_problem(
    tmp_path: Path, trusted: Authority, publisher: Publisher, forwarded: str, status: int
) -> None:
    async with started(laboratory(tmp_path, trusted, publisher, proxies=("127.0.0.1",))) as receiver:
        async with httpx.AsyncClient(base_url=receiver.http, trust_env=False, timeout=DEADLINE) as http:
            given = {"content-type": CONTENT_TYPE, "x-forwarded-for": forwarded}
            answer = await http.post(PATH, content=publisher.signed(), headers=given)
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["type"] == TAG + "malformed"


async def test_what_is_asked_for_with_an_unknown_parameter_is_not_answered(receiver: Receiver) -> None:
    async with httpx.AsyncClient(base_url=receiver.page, trust_env=False, timeout=DEADLINE) as http:
        for path in ("/api/notices?limit=5", "/api/notices?most=5&x", "/api/floods?most=5", "/events?most=5"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["type"]) == (422, TAG + "unfit")
        assert (await http.get("/api/notices?most=5&after=1")).status_code == 200


async def test_what_is_no_request_is_not_written_down(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with connections(receiver.http, 20, b"no request at all\r\n\r\n") as readers:
        answers = await hung_up(readers, 20)
        assert all(each.startswith(b"HTTP/1.1 400 ") for each in answers)
    assert caplog.records == []


def test_a_fault_is_told_of_when_it_begins_and_once_a_minute_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    seconds = iter(range(10_000))
    complaints = Complaints(logging.getLogger("overflowd"), lambda: next(seconds) * 1_000_000)
    for _ in range(180):
        complaints.complain("the store is away")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "the store is away",
        *["the store is away (and 59 more faults since one was told of)"] * 2,
    ]
    complaints.complain("the disk is full")
    assert "the disk is full" in caplog.records[-1].getMessage(), "a change is told of at once"
    caplog.clear()
    for number in range(600):
        complaints.complain(f"each time another, {number}")
    assert len(caplog.records) <= 11 * IN_ALL.count, "in ten minutes"


async def test_a_store_that_is_away_is_told_of_once_however_often_it_is_looked_into(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, looked = await open_store(f"sqlite:///{tmp_path}/received.db"), itertools.count()
    with sqlite3.connect(tmp_path / "received.db") as other:
        other.execute("DROP TABLE notices")
    asked = 0

    def clock() -> int:
        nonlocal asked
        asked = next(looked)
        return asked

    def none(_: object) -> None:
        raise AssertionError("there is nothing to tell of")

    following = Following(store, lambda: 0, none, none, Complaints(logging.getLogger("overflowd"), clock))
    running = asyncio.create_task(following.run())
    async with asyncio.timeout(DEADLINE):
        while asked < 5:
            following.wake()
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("what was taken can't be read: ")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60), st.integers(1, 6), st.integers(1, 3))
def test_no_more_are_there_at_one_time_than_may_be(steps: list[tuple[bool, int]], together: int, each: int) -> None:
    """Of two networks, one of them exempt; against a list of who is there."""
    addresses = [ip_address(f"198.51.{100 + n % 2}.{n}") for n in range(6)]
    places = AtOnce(together, each, lambda address: str(address).startswith("198.51.101."))
    there: list[int] = []
    for comes, number in steps:
        if comes:
            of_it = sum(other % 2 == number % 2 for other in there)
            expected = len(there) < together and (number % 2 == 1 or of_it < each)
            assert places.take(addresses[number]) is expected
            there += [number] * expected
        elif number in there:
            there.remove(number)
            places.give_back(addresses[number])
        assert len(places) == len(there)
