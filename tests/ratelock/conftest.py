from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ratelock.served import Served, served


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as running:
        yield running
