"""Mutual TLS with jfe's own identities: the SPIFFE id of the certificate is the caller."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import RequestError
from jfe_cni.identity import leaf
from jfe_cni.identity.authority import Authority, open_authority
from jfe_cni.identity.csr import Names
from jfe_cni.identity.leaf import Leaf
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain
from jfe_cni.ratelock import AsyncClient, Client, server
from jfe_cni.ratelock.api.authentication import read_identities
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import ServiceUnreachable
from jfe_cni.ratelock.connection import Connection
from jfe_cni.ratelock.faults import BudgetSpent, Forbidden, Unauthenticated
from tests.ratelock.served import OWNER, Served, served

DOMAIN = TrustDomain("jfe.local")
ADMIN, SHOP, STRANGER = (
    "spiffe://jfe.local/host/db/unit/admin",
    "spiffe://jfe.local/ns/shop/sa/web",
    "spiffe://jfe.local/x",
)
IDENTITIES = f"""
[[identity]]
id = "{ADMIN}"
role = "owner"

[[identity]]
id = "spiffe://jfe.local/ns/shop/*"
role = "caller"
operations = ["check"]
secrets = ["shop/*"]
"""


def authority_in(folder: Path, ago: timedelta = timedelta()) -> Authority:
    return open_authority(folder, DOMAIN, lambda: datetime.now(UTC) - ago)


def issued(authority: Authority, identity: str) -> Leaf:
    return authority.issue(Names(SpiffeId.parse(identity), frozenset({ip_address("127.0.0.1")})))


def written(folder: Path, name: str, made: Leaf) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_text(made.certificates)
    key.write_text(made.key)
    return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return authority_in(tmp_path / "authority")


@contextlib.asynccontextmanager
async def secured(folder: Path, authority: Authority, **given: object) -> AsyncIterator[Served]:
    certificate, key = written(folder, "server", issued(authority, "spiffe://jfe.local/ratelock"))
    (folder / "bundle.pem").write_text(authority.bundle.pem())
    (folder / "identities.toml").write_text(IDENTITIES)
    files = {"tls_certificate": certificate, "tls_key": key, "client_ca": folder / "bundle.pem"}
    async with served(folder, listen="127.0.0.1:0", identities=folder / "identities.toml", **files, **given) as service:
        assert service.url.startswith("https://127.0.0.1:")
        yield service


def trusting(folder: Path, shown: Leaf | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "bundle.pem")
    if shown is not None:
        context.load_cert_chain(*written(folder, "client", shown))
    return context


async def test_a_certificate_s_spiffe_id_is_who_asks(tmp_path: Path, authority: Authority) -> None:
    async with secured(tmp_path, authority) as service:
        async with AsyncClient(service.url, verify=trusting(tmp_path, issued(authority, ADMIN))) as owner:
            await owner.add_password("shop/alice", "right")
            await owner.add_password("bank/alice", "right")
        async with AsyncClient(service.url, verify=trusting(tmp_path, issued(authority, SHOP))) as shop:
            assert await shop.check("shop/alice", "right")
            assert not await shop.check("shop/alice", "wrong")
            with pytest.raises(Forbidden):
                await shop.check("bank/alice", "right")
            with pytest.raises(Forbidden):
                await shop.release("shop/alice", ["x"])
            with pytest.raises(Forbidden):
                await shop.add_password("shop/mallory", "x")
        entries = [entry async for entry in service.assembled.service.log(OWNER)]
    assert (ADMIN, "secret.add", "shop/alice") in [(entry.actor, entry.event, entry.subject) for entry in entries]
    assert (SHOP, "check", "shop/alice") in [(entry.actor, entry.event, entry.subject) for entry in entries]


async def test_the_sync_client_comes_by_certificate_too(tmp_path: Path, authority: Authority) -> None:
    def checked(url: str, context: ssl.SSLContext) -> list[bool]:
        with Client(url, verify=context) as shop:
            return [shop.check("shop/alice", "right"), shop.check("shop/alice", "wrong")]

    async with secured(tmp_path, authority) as service:
        await service.assembled.service.add_password(OWNER, "shop/alice", b"right")
        context = trusting(tmp_path, issued(authority, SHOP))
        assert await asyncio.to_thread(checked, service.url, context) == [True, False]


async def test_a_budget_is_set_for_a_spiffe_id_and_counted_by_it(tmp_path: Path, authority: Authority) -> None:
    async with secured(tmp_path, authority, client_certificates="optional") as service:
        async with AsyncClient(service.url, token=service.owner, verify=trusting(tmp_path, None)) as owner:
            await owner.set_budget(Meter("caller", SHOP), Budget((Limit(1, 60_000_000),)))
        async with AsyncClient(service.url, verify=trusting(tmp_path, issued(authority, SHOP))) as shop:
            assert not await shop.check("shop/a", "x")
            with pytest.raises(BudgetSpent) as spent:
                await shop.check("shop/b", "x")
    assert spent.value.meter.kind == "caller"


async def test_who_is_not_listed_or_has_no_certificate_of_the_authority_stays_out(
    tmp_path: Path, authority: Authority
) -> None:
    rogue = authority_in(tmp_path / "rogue")
    async with secured(tmp_path, authority) as service:
        async with AsyncClient(service.url, verify=trusting(tmp_path, issued(authority, STRANGER))) as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.check("shop/alice", "x")
        for shown in (None, issued(rogue, ADMIN)):
            async with AsyncClient(service.url, verify=trusting(tmp_path, shown)) as nobody:
                with pytest.raises(ServiceUnreachable):
                    await nobody.secrets()
        old = ssl.create_default_context(cafile=tmp_path / "bundle.pem")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with AsyncClient(service.url, verify=old, token=service.owner) as late:
            with pytest.raises(ServiceUnreachable):
                await late.secrets()


async def test_a_token_goes_before_a_certificate_and_a_wrong_one_spoils_it(
    tmp_path: Path, authority: Authority
) -> None:
    async with secured(tmp_path, authority) as service:
        context = trusting(tmp_path, issued(authority, ADMIN))
        async with AsyncClient(service.url, verify=context, token=service.caller) as caller:
            with pytest.raises(Forbidden):
                await caller.secrets()
        async with AsyncClient(service.url, verify=context, token="rl_" + "A" * 43) as unknown:
            with pytest.raises(Unauthenticated):
                await unknown.secrets()


async def test_a_certificate_that_expires_while_its_connection_lives_is_none_any_more(tmp_path: Path) -> None:
    shown = issued(authority_in(tmp_path / "authority", leaf.LIFE - timedelta(seconds=4)), ADMIN)
    async with (
        secured(tmp_path, authority_in(tmp_path / "authority")) as service,
        httpx.AsyncClient(base_url=service.url, verify=trusting(tmp_path, shown), trust_env=False) as http,
    ):
        assert (await http.get("/v1/secrets")).status_code == 200
        await asyncio.sleep((shown.not_after - datetime.now(UTC)).total_seconds() + 0.1)
        assert (await http.get("/v1/secrets")).status_code == 401


async def test_the_extension_is_as_asgi_has_it(tmp_path: Path, authority: Authority) -> None:
    seen = {}

    class Watched(Connection):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            behind = self.app

            async def watched(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
                await behind(scope, receive, send)
                seen.update(scope["extensions"]["tls"])

            self.app = watched

    shown = issued(authority, ADMIN)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "Connection", Watched)
        async with (
            secured(tmp_path, authority) as service,
            AsyncClient(service.url, verify=trusting(tmp_path, shown)) as owner,
        ):
            await owner.secrets()
    certificate = x509.load_pem_x509_certificate(shown.certificates.encode())
    assert seen["client_cert_chain"] == [certificate.public_bytes(Encoding.PEM).decode()]
    assert seen["client_cert_name"] == certificate.subject.rfc4514_string()
    assert seen["tls_version"] == 0x0304
    assert seen["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert seen["client_cert_error"] is None


async def test_a_certificate_that_is_replaced_is_shown_to_the_next(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jfe_cni.renewed_certificates.SECONDS", 0.05)
    async with secured(tmp_path, authority, client_certificates="optional") as service:
        before = await shown_by(tmp_path, service)
        written(tmp_path, "server", issued(authority, "spiffe://jfe.local/ratelock"))
        async with asyncio.timeout(10):
            while await shown_by(tmp_path, service) == before:
                pass


async def shown_by(folder: Path, service: Served) -> bytes:
    port = int(service.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(folder, None))
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return shown


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[identity]\nid='spiffe://a/b'\nrole='owner'", "two brackets"),
        ("[[identity]]\nid='spiffe://a/b'\nrole='root'", "role"),
        ("[[identity]]\nid='spiffe://a*'\nrole='owner'", "trust domain"),
        ("[[identity]]\nid='*'\nrole='owner'", "SPIFFE"),
        ("[[identity]]\nid='spiffe://a/b'\nrole='caller'\noperations=['steal']", "operations"),
        ("[[identity]]\nid='spiffe://a/b'\nrole='caller'\nsecrets='all'", "list"),
        ("[[identity]]\nid='spiffe://a/b'\nrole='caller'\nscope='all'", "scope"),
        ("[[identity", "can't be read"),
    ],
)
def test_identities_that_are_not_understood_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "identities.toml").write_text(text)
    with pytest.raises(RequestError, match=wrong):
        read_identities(tmp_path / "identities.toml")


def test_an_identity_below_another_name_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "identities.toml").write_text(IDENTITIES)
    identities = read_identities(tmp_path / "identities.toml")
    for outside in ("spiffe://jfe.local/ns/shopping/sa/web", "spiffe://jfe.local/ns/shop", f"{ADMIN}2", ADMIN[:-1]):
        assert identities.caller(outside) is None
    assert identities.caller(SHOP) is not None
