"""A receiver for a test, and who publishes keys to it: real servers on free ports, an authority of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.keys import PUBLISHED, KeyRing, new_key
from jfe_cni.overflowd.notices.messages import Message, Sent
from jfe_cni.overflowd.notices.notice import Notice, new_nonce
from jfe_cni.overflowd.notices.signing import sign
from jfe_cni.overflowd.receiver.service import Receiver, receiving
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from tests.overflowd.test_notices import NOTICE

DOMAIN = "carrier.example"
LOOPBACK = ip_address("127.0.0.1")
# Seconds until something has gone wrong.
DEADLINE = 30.0


@dataclass(frozen=True)
class Authority:
    """Of TLS. `roots`: a PEM file."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def roots(self) -> Path:
        return self.folder / "roots.pem"

    def issue(self, domain: str) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(domain, self.certificate.subject, key.public_key())
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        certificate, secret = self.folder / f"{domain}.pem", self.folder / f"{domain}.key"
        certificate.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        secret.write_bytes(_private(key))
        return certificate, secret


def authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    made = _builder("an authority", name, key.public_key())
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    found = Authority(folder, key, made.sign(key, hashes.SHA256()))
    found.roots.write_bytes(found.certificate.public_bytes(Encoding.PEM))
    return found


def _builder(subject: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
    builder = builder.issuer_name(issuer).public_key(key).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Publisher:
    """A reporter's web server. `asked`: how often for its keys. `answer`: in the place of its keys."""

    domain: str
    ring: KeyRing
    port: int = 0
    asked: int = 0
    answer: Answer | None = None
    others: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://{self.domain}:{self.port}{PUBLISHED}"

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != PUBLISHED:
            self.others.append(request.path)
            raise web.HTTPNotFound
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response(self.ring.published(int(time.time())))

    def notice(self, **changed: Any) -> Notice:
        """News, of this one."""
        reporter = replace(NOTICE.reporter, keys=self.url)
        given = {"reporter": reporter, "made": time.time_ns() // 1_000, "nonce": new_nonce(), **changed}
        return replace(NOTICE, **given)

    def signed(self, key: OKPKey | None = None, **changed: Any) -> bytes:
        return sign(self.notice(**changed), key or self.ring.signing).encode()


@contextlib.asynccontextmanager
async def publishing(
    trusted: Authority, domain: str = DOMAIN, *, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Publisher]:
    publisher = Publisher(domain, KeyRing(new_key()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*trusted.issue(domain))
    # What a test's answer has not ended is ended at once.
    runner = web.ServerRunner(web.Server(publisher.serve), shutdown_timeout=0)
    await runner.setup()
    try:
        bound = socket.create_server((address, port))
        publisher.port = bound.getsockname()[1]
        await web.SockSite(runner, bound, ssl_context=context).start()
        yield publisher
    finally:
        await runner.cleanup()


async def at_loopback(_domain: str) -> Sequence[Address]:
    """What a laboratory's resolver says."""
    return [LOOPBACK]


def laboratory(folder: Path, trusted: Authority, *publishers: Publisher, **given: Any) -> ReceiverSettings:
    wanted: dict[str, Any] = {
        "store": f"sqlite:///{folder}/received.db",
        "keys": folder / "keys.json",
        "udp": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "page": "127.0.0.1:0",
        "key_networks": ("127.0.0.0/8",),
        "key_ports": tuple(str(each.port) for each in publishers) or ("443",),
        "key_roots": trusted.roots,
    }
    return ReceiverSettings(**wanted | given)


@contextlib.asynccontextmanager
async def started(settings: ReceiverSettings, **given: Any) -> AsyncIterator[Receiver]:
    async with receiving(settings, resolving=at_loopback, **given) as receiver:
        yield receiver


class Sender:
    """A socket of UDP that says and hears messages."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect((address, port))

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> None:
        self._socket.send(raw)

    async def hear(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65_535)

    async def ask(self, raw: bytes) -> Message | None:
        self.send(raw)
        return messages.decode(await self.hear())

    async def introduce(self, signed: bytes) -> Message | None:
        """Echoes the challenge that comes."""
        challenge = await self.ask(signed)
        assert isinstance(challenge, messages.Challenge), challenge
        return await self.ask(messages.encode(Sent(signed, challenge.cookie)))


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives once that is true."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if found := await holds():
                return found
            await asyncio.sleep(0.02)


def client(url: str, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE, **options)


async def post(url: str, signed: bytes, **options: Any) -> httpx.Response:
    async with client(url, **options) as http:
        return await http.post(PATH, content=signed, headers={"content-type": CONTENT_TYPE})


async def metric(receiver: Receiver, name: str, outcome: str) -> float:
    async with client(receiver.page) as http:
        text = (await http.get("/metrics")).text
    wanted = f'overflowd_receiver_{name}_total{{outcome="{outcome}"}} '
    return sum(float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted))


async def notices(receiver: Receiver) -> list[dict[str, Any]]:
    async with client(receiver.page) as http:
        found: list[dict[str, Any]] = (await http.get("/api/notices")).json()["notices"]
        return found


async def floods(http: httpx.AsyncClient) -> Any:
    return (await http.get("/api/floods")).json()["floods"]
