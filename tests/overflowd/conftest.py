"""The two databases that state is kept in, empty. A test that takes `state_url` runs on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.ratelock.demo import postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as started:
        yield started


@pytest.fixture
def postgresql_url(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.database()
