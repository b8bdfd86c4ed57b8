"""The two databases that state is kept in, empty: a test that takes `state_url` runs on each. And a receiver, with who
publishes keys for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.ratelock.demo import postgresql
from tests.overflowd.receiving import Authority, Publisher, authority, laboratory, publishing, started


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.database()


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.fixture
async def publisher(trusted: Authority) -> AsyncIterator[Publisher]:
    async with publishing(trusted) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, trusted: Authority, publisher: Publisher) -> ReceiverSettings:
    return laboratory(tmp_path, trusted, publisher)


@pytest.fixture
async def receiver(settings: ReceiverSettings) -> AsyncIterator[Receiver]:
    async with started(settings) as found:
        yield found
