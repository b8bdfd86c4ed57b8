"""An agent and its authority behind ratelock: what it takes for good, what it remembers, when it asks again."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from jfe_cni.agent.bundle_cache import BundleCache
from jfe_cni.agent.ca_address import CaAddress, CaCredentials
from jfe_cni.agent.ca_connection import CaConnection
from jfe_cni.agent.faults import AuthorityAway, SigningBudgetSpent
from jfe_cni.agent.remote_issuer import RemoteIssuer, open_remote
from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity import csr, leaf
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import AsyncClient, ServiceUnreachable
from jfe_cni.ratelock.service import Ratelock
from tests.ratelock.services import OWNER, service_on, store_at

LOG = logging.getLogger("jfe.test")
DOMAIN = TrustDomain.parse("jfe.test")
NODE = Caller("spiffe://jfe.test/host/n1/agent", "caller", frozenset({"certify"}), ("ca",))
WEB = Names(SpiffeId.parse("spiffe://jfe.test/host/n1/run/web"), frozenset({ipaddress.ip_address("10.1.0.5")}))
OTHER = Names(SpiffeId.parse("spiffe://jfe.test/host/n1/run/other"), frozenset())
HOUR = 3_600_000_000
REMOTE = CaAddress("unix:/run/ratelock.sock", "ca")


class Way:
    """Stands for connection and client: asks the service itself, unless it is `away`."""

    address = REMOTE

    def __init__(self, service: Ratelock) -> None:
        self._service = service
        self.away = False
        self.asked = 0
        self.certify_instead: Names | None = None

    async def client(self) -> Way:
        self.asked += 1
        if self.away:
            raise ServiceUnreachable("ratelock at unix:/run/ratelock.sock can't be reached")
        return self

    async def close(self) -> None: ...

    async def certify(self, name: str, request: str, node: str) -> str:
        if self.certify_instead is not None:
            request = csr.request(leaf.new_key(), self.certify_instead)
        return await self._service.certify(NODE, name, request, node)

    async def trust_bundle(self, name: str) -> str:
        return await self._service.trust_bundle(NODE, name)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Ratelock]:
    async with store_at(tmp_path / "store.db") as store, service_on(store) as service:
        await service.add_authority(OWNER, "ca", "jfe.test")
        await service.set_budget(OWNER, Meter("secret", "ca"), Budget((Limit(100, HOUR),)))
        yield service


@pytest.fixture
def way(service: Ratelock) -> Way:
    return Way(service)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def opened(
    way: Way, folder: Path, clock: Clock, domain: TrustDomain = DOMAIN, source: str = "ca"
) -> RemoteIssuer:
    cache = BundleCache(folder / "trust-bundle.json", source, LOG)
    return await open_remote(cast(CaConnection, way), "n1", domain, cache, clock, LOG)


async def test_a_certificate_comes_for_a_key_that_was_made_here(way: Way, tmp_path: Path, clock: Clock) -> None:
    issuer = await opened(way, tmp_path, clock)
    made = await issuer.issue(WEB)
    assert leaf.load(made.certificates, made.key, issuer.bundle, clock.now).not_after == made.not_after


async def test_roots_are_kept_for_the_time_when_ratelock_is_away(way: Way, tmp_path: Path, clock: Clock) -> None:
    way.away = True
    with pytest.raises(AuthorityAway):
        await opened(way, tmp_path, clock)
    way.away = False
    roots = (await opened(way, tmp_path, clock)).bundle
    way.away = True
    again = await opened(way, tmp_path, clock)
    assert again.bundle == roots
    with pytest.raises(AuthorityAway, match="can't be reached"):
        await again.issue(WEB)
    with pytest.raises(AuthorityAway):
        await opened(way, tmp_path, clock, source="another authority")
    (tmp_path / "trust-bundle.json").write_text("{")
    with pytest.raises(AuthorityAway):
        await opened(way, tmp_path, clock)


async def test_roots_of_another_trust_domain_are_refused(way: Way, tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        with pytest.raises(IdentityError, match="another trust domain"):
            await opened(way, tmp_path, clock, TrustDomain.parse("other.test"))


async def test_what_was_certified_for_another_is_not_taken(way: Way, tmp_path: Path, clock: Clock) -> None:
    issuer = await opened(way, tmp_path, clock)
    way.certify_instead = OTHER
    with pytest.raises(IdentityError, match="certified another than"):
        await issuer.issue(WEB)
    way.certify_instead = WEB
    with pytest.raises(IdentityError, match="key belongs to another certificate"):
        await issuer.issue(WEB)


async def test_while_ratelock_is_away_renewals_wait_and_it_is_looked_for(
    way: Way, tmp_path: Path, clock: Clock
) -> None:
    issuer = await opened(way, tmp_path, clock)
    assert issuer.deferred() is None
    way.away = True
    with pytest.raises(AuthorityAway):
        await issuer.issue(WEB)
    assert isinstance(issuer.deferred(), AuthorityAway)
    assert isinstance(issuer.unable(), AuthorityAway)
    await issuer.reload()
    assert issuer.deferred() is not None
    way.away = False
    await issuer.reload()
    assert issuer.deferred() is None
    assert issuer.unable() is None


async def test_a_spent_budget_says_when_to_come_again_and_is_asked_for_again_before(
    service: Ratelock, way: Way, tmp_path: Path, clock: Clock
) -> None:
    issuer = await opened(way, tmp_path, clock)
    await service.set_budget(OWNER, Meter("caller", NODE.identity), Budget((Limit(1, HOUR),)))
    await issuer.issue(WEB)
    with pytest.raises(SigningBudgetSpent, match=r"of this node .* spent: 1 in 3600 s: come again in 3\d\d\d\.\d s"):
        await issuer.issue(WEB)
    assert "come again in 3" in str(issuer.unable())
    # The roots are told all the same, which changes nothing of the budget.
    await issuer.refresh()
    clock.now += timedelta(seconds=59)
    assert isinstance(issuer.deferred(), SigningBudgetSpent)
    clock.now += timedelta(seconds=2)
    assert issuer.deferred() is None
    assert isinstance(issuer.unable(), SigningBudgetSpent)
    clock.now += timedelta(hours=1)
    assert issuer.unable() is None


async def test_new_roots_are_seen_within_a_minute_and_at_once_where_they_have_signed(
    service: Ratelock, way: Way, tmp_path: Path, clock: Clock
) -> None:
    issuer = await opened(way, tmp_path, clock)
    replaced = TrustBundle.parse(await service.add_authority(OWNER, "ca", "jfe.test", replace=True))
    asked = way.asked
    await issuer.reload()
    assert way.asked == asked
    clock.now += timedelta(seconds=61)
    await issuer.reload()
    assert issuer.bundle == replaced
    replaced = TrustBundle.parse(await service.add_authority(OWNER, "ca", "jfe.test", replace=True))
    await issuer.issue(WEB)
    assert issuer.bundle == replaced


async def test_no_agent_rotates_an_authority_that_is_not_its_own(way: Way, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(RequestError, match="in ratelock"):
        await (await opened(way, tmp_path, clock)).rotate("begin")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ratelock://ratelock.test:8750/jfe-ca", CaAddress("https://ratelock.test:8750", "jfe-ca")),
        ("ratelock://[fd00::1]:8750/jfe/ca", CaAddress("https://[fd00::1]:8750", "jfe/ca")),
        ("ratelock+unix://%2Frun%2Fratelock.sock/jfe-ca", CaAddress("unix:/run/ratelock.sock", "jfe-ca")),
    ],
)
def test_an_authority_has_an_address(text: str, address: CaAddress) -> None:
    assert CaAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "ratelock://ratelock.test:8750",
        "ratelock://ratelock.test:8750/",
        "ratelock://ratelock.test/jfe-ca",
        "ratelock://ratelock.test:port/jfe-ca",
        "ratelock://token@ratelock.test:8750/jfe-ca",
        "ratelock://ratelock.test:8750/jfe-ca?x=1",
        "ratelock+unix://run/jfe-ca",
        "ratelock+unix:///run/ratelock.sock/jfe-ca",
        "https://ratelock.test:8750/jfe-ca",
        "jfe-ca",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is no authority behind ratelock"):
        CaAddress.parse(text)


@pytest.mark.parametrize(
    ("url", "credentials", "why"),
    [
        ("https://x:1", CaCredentials(), "one credential"),
        ("https://x:1", CaCredentials(token="rl_", token_file=Path("t")), "one credential"),
        ("https://x:1", CaCredentials(token="rl_", certificate=Path("c"), key=Path("k")), "one credential"),
        ("https://x:1", CaCredentials(certificate=Path("c")), "one credential"),
        ("unix:/x", CaCredentials(certificate=Path("c"), key=Path("k")), "no TLS"),
        ("unix:/x", CaCredentials(token="rl_", roots=Path("r")), "no TLS"),
    ],
)
def test_a_node_has_one_credential_that_is_of_use(url: str, credentials: CaCredentials, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        credentials.check(CaAddress(url, "ca"))
    assert "rl_" not in repr(credentials)


async def test_a_credential_that_has_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("rl_first\n")
    connection = CaConnection(REMOTE, CaCredentials(token_file=file))
    first = await connection.client()
    assert await connection.client() is first
    beside = tmp_path / "new"
    beside.write_text("rl_second\n")
    beside.replace(file)
    second = await connection.client()
    assert _token(second) == "Bearer rl_second"
    file.unlink()
    with pytest.raises(IdentityError, match="can't be read"):
        await connection.client()
    await connection.close()


def _token(client: AsyncClient) -> str:
    return client._http.headers["authorization"]
