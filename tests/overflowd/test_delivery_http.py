"""To the address itself by HTTP and HTTPS, against real servers: what is sent, what is believed, what is not done."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.delivery.http import PATH, HttpWay, Ports, open_http
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.receiver_keys import KEPT_SECONDS, NONE_KEPT_SECONDS, SILENCE_KEPT_SECONDS, ReceiverKeys
from jfe_cni.overflowd.delivery.sizes import SYNS, most
from jfe_cni.overflowd.notices import keys, messages, optout, sealing
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED, sign
from tests.overflowd.test_delivery_udp import in_namespace
from tests.overflowd.test_notices import NOTICE

LOCAL = ip_address("127.0.0.1")
PAYLOAD = sign(NOTICE, keys.new_key()).encode()
DIGEST = messages.digest(PAYLOAD)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    port: int = 0
    got: list[tuple[str, str, str, bytes]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def server(
    handler: Handler, host: str = "127.0.0.1", secured: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    found = Server()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        said = request.headers.get("Content-Type", "")
        found.got.append((request.method, request.path, said, await request.read()))
        return await handler(request)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=secured)
    await site.start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def to(port: int) -> AsyncIterator[HttpWay]:
    async with open_http(Ports(https=port, http=port)) as way:
        yield way


def self_signed(folder: Path) -> ssl.SSLContext:
    """Of nobody, expired: as it may be where a bare address is asked."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(past).not_valid_after(past + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    kind, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, kind, no_password)
    (folder / "server.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def answering(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_notice_is_posted_to_the_address_itself_and_taken(host: str) -> None:
    async with server(answering(202), host) as receiver, to(receiver.port) as way:
        answer = await way.tell(Way.HTTP, ip_address(host), PAYLOAD)
    assert answer.told is Told.TAKEN
    assert receiver.got == [("POST", PATH, "application/jose", PAYLOAD)]


async def test_by_tls_no_certificate_is_asked_for(tmp_path: Path) -> None:
    secured = self_signed(tmp_path)
    async with server(answering(204), secured=secured) as receiver, to(receiver.port) as way:
        assert (await way.tell(Way.HTTPS, LOCAL, PAYLOAD)).told is Told.TAKEN
        assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is not Told.TAKEN
    assert len(receiver.got) == 1


WISH = optout.sign(DIGEST, keys.new_key(), until=2_000_000_000).encode()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"anything", Told.TAKEN),
        (410, WISH, Told.OPTED_OUT),
        (403, WISH + b"\n", Told.OPTED_OUT),
        (410, b"", Told.REFUSED),
        (403, b"<html>", Told.REFUSED),
        (403, optout.sign(messages.digest(b"another"), keys.new_key()).encode(), Told.REFUSED),
        (404, WISH, Told.REFUSED),
        (500, b"", Told.REFUSED),
        (429, b"", Told.NOT_NOW),
        (410, b"x" * 10_000_000, Told.REFUSED),
    ],
)
async def test_what_a_server_answers_is_understood(status: int, body: bytes, told: Told) -> None:
    async with server(answering(status, body)) as receiver, to(receiver.port) as way:
        answer = await way.tell(Way.HTTP, LOCAL, PAYLOAD)
    assert answer.told is told
    assert (answer.opt_out is not None) == (told is Told.OPTED_OUT)
    assert len(receiver.got) == 1, "once, whatever was answered"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nobody_is_sent_on_to_another(status: int) -> None:
    async with server(answering(200)) as victim:
        away = answering(status, Location=f"http://127.0.0.1:{victim.port}/")
        async with server(away) as receiver, to(receiver.port) as way:
            assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is Told.REFUSED
            assert await way.published(Way.HTTP, LOCAL) is None
        assert victim.got == []


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(answering(200)) as proxy, server(answering(202)) as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with to(receiver.port) as way:
            assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is Told.TAKEN
        assert proxy.got == []


async def test_who_sends_without_end_is_hung_up_on() -> None:
    closed = asyncio.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=410)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 4_096)
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.CancelledError):
            closed.set()
            raise

    async with server(endless) as receiver, to(receiver.port) as way:
        assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is Told.REFUSED
        await asyncio.wait_for(closed.wait(), 20)


async def test_where_nobody_listens_it_is_heard_of_at_once() -> None:
    async with server(answering(200)) as receiver:
        pass
    async with to(receiver.port) as way:
        assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is Told.PORT_UNREACHABLE
        assert (await way.tell(Way.HTTPS, LOCAL, PAYLOAD)).told is Told.PORT_UNREACHABLE


async def test_who_hangs_up_has_not_answered() -> None:
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with server(hang_up) as receiver, to(receiver.port) as way:
        assert (await way.tell(Way.HTTP, LOCAL, PAYLOAD)).told is Told.NO_ANSWER
    assert len(receiver.got) == 1, "nor is it tried again"


def test_where_there_is_no_route_nothing_is_sent() -> None:
    async def work() -> Told:
        async with to(80) as way:
            return (await way.tell(Way.HTTP, ip_address("203.0.113.9"), PAYLOAD)).told

    assert in_namespace(work) is Told.NO_ROUTE


@pytest.mark.parametrize("way", [Way.HTTP, Way.HTTPS])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [600, LARGEST_SIGNED])
def test_no_more_octets_leave_than_are_reckoned_with(way: Way, host: str, size: int, tmp_path: Path) -> None:
    """Counted by the kernel, as they go to the server's port, headers and handshake included."""
    secured = self_signed(tmp_path) if way is Way.HTTPS else None

    async def work() -> tuple[Told, int]:
        async with server(answering(410, WISH), host, secured) as receiver, to(receiver.port) as sending:
            nft(f"add rule inet t c tcp dport {receiver.port} counter")
            answer = await sending.tell(way, ip_address(host), bytes(size))
            await asyncio.sleep(0.1)
            return answer.told, counted(json.loads(nft("-j", "list chain inet t c")))

    def nft(*words: str) -> bytes:
        return subprocess.run(["nft", *words], check=True, capture_output=True).stdout

    def counted(said: dict[str, list[dict[str, dict[str, list[dict[str, dict[str, int]]]]]]]) -> int:
        [rule] = [each["rule"] for each in said["nftables"] if "rule" in each]
        return next(each["counter"]["bytes"] for each in rule["expr"] if "counter" in each)

    chain = "nft add table inet t; nft 'add chain inet t c { type filter hook output priority 0; }'"
    told, octets = in_namespace(work, "ip link set lo mtu 1280", chain)
    assert told is Told.REFUSED
    assert size < octets <= most(way, ip_address(host), 0, size, asks_key=False)


def test_who_answers_no_syn_is_sent_no_more_of_them_than_are_reckoned_with() -> None:
    async def work() -> tuple[Told, int]:
        async with to(80) as sending:
            answer = await sending.tell(Way.HTTP, LOCAL, PAYLOAD)
            said = json.loads(nft("-j", "list chain inet t c"))
            [rule] = [each["rule"] for each in said["nftables"] if "rule" in each]
            return answer.told, next(each["counter"]["packets"] for each in rule["expr"] if "counter" in each)

    def nft(*words: str) -> bytes:
        return subprocess.run(["nft", *words], check=True, capture_output=True).stdout

    chain = "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; }'"
    told, syns = in_namespace(work, chain, "nft add rule inet t c tcp dport 80 counter drop")
    assert told is Told.NO_ANSWER
    assert 1 < syns <= SYNS


async def test_a_key_to_seal_to_is_asked_for_once_in_a_while() -> None:
    key, passed = sealing.new_key(), 0.0
    known = ReceiverKeys(lambda: passed)
    document = json.dumps({"keys": [sealing.published(key)]}).encode()
    async with server(answering(200, document)) as receiver, to(receiver.port) as way:
        for _ in range(3):
            found = await known.of(LOCAL, lambda: way.published(Way.HTTP, LOCAL))
            assert isinstance(found, OKPKey)
            assert found.thumbprint() == key.thumbprint()
        assert [each[:2] for each in receiver.got] == [("GET", keys.PUBLISHED)]
        passed += KEPT_SECONDS
        assert await known.of(LOCAL, lambda: way.published(Way.HTTP, LOCAL)) is not None
        assert len(receiver.got) == 2


async def test_that_nobody_answered_is_not_remembered_as_having_no_key() -> None:
    passed = 0.0
    known = ReceiverKeys(lambda: passed)
    async with server(answering(200)) as receiver:
        pass
    async with to(receiver.port) as way:
        assert await known.of(LOCAL, lambda: way.published(Way.HTTPS, LOCAL)) is Told.PORT_UNREACHABLE
    assert not known.is_known(LOCAL)
    assert known.is_silent(LOCAL), "and no datagram waits for it meanwhile"
    passed += SILENCE_KEPT_SECONDS
    assert not known.is_silent(LOCAL)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (200, b"<html>"), (200, b"[" * 10_000), (200, b"{}"), (200, b" " * 1_000_000)]
)
async def test_that_there_is_no_key_is_remembered_for_longer(status: int, body: bytes) -> None:
    passed = 0.0
    known = ReceiverKeys(lambda: passed)
    async with server(answering(status, body)) as receiver, to(receiver.port) as way:
        for _ in range(3):
            assert await known.of(LOCAL, lambda: way.published(Way.HTTP, LOCAL)) is None
        passed += NONE_KEPT_SECONDS - 1
        assert known.is_known(LOCAL)
        assert len(receiver.got) == 1
        passed += 1
        assert not known.is_known(LOCAL)
