"""Every store there is, empty. A test that takes `url` or `store` runs on each."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.store import Store
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.cloud import CREDENTIALS, REGION, Cloud, cloud
from tests.ratelock.hands import Hands
from tests.ratelock.served import Served, served

# A further store: its name, and a fixture `<name>_url` that gives the URL of an empty one.
SQL_STORES = ["sqlite", "postgresql"]
STORES = [*SQL_STORES, "dynamodb"]


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ratelock.db"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as started:
        yield started


@pytest.fixture
def postgresql_url(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.database()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Cloud]:
    with cloud() as started:
        yield started


@pytest.fixture
def aws(moto_server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """With nothing in it, and credentials that boto3 finds."""
    moto_server.authenticate_nobody()
    moto_server.forget()
    for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    return moto_server


@pytest.fixture
def dynamodb_url(aws: Cloud) -> str:
    return f"dynamodb://ratelock?region={REGION}&endpoint={aws.endpoint}&create=true"


@pytest.fixture
def settings(dynamodb_url: str) -> dict[str, str]:
    """Of a function on DynamoDB, as its environment has them; Argon2id at next to no cost."""
    return {
        "RATELOCK_STORE": dynamodb_url,
        "RATELOCK_KEY": "environment:RATELOCK_KEY_ENCRYPTION_KEY",
        "RATELOCK_KEY_ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode(),
        "RATELOCK_PASSWORD_MEMORY": "8",
        "RATELOCK_PASSWORD_ITERATIONS": "1",
        "RATELOCK_PASSWORD_LANES": "1",
    }


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def store(url: str, hands: Hands) -> AsyncIterator[Store]:
    """Its time is what `hands` say."""
    opened = await open_store(url, hands.clock())
    yield opened
    await opened.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Served]:
    """Over HTTP, on SQLite."""
    async with served(tmp_path) as running:
        yield running
