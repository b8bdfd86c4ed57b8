from collections.abc import Iterator

import pytest

from tests.stage import Stage
from tests.stage.fixtures import pair, permissive, pytest_runtest_makereport, stage, told_of_failure

__all__ = ["hosts", "pair", "permissive", "pytest_runtest_makereport", "stage"]


@pytest.fixture(scope="module", params=["bare", "covered"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Every exchange is held twice: without cover, so that each assertion is seen to be able to fail, and under it."""
    with Stage() as made:
        if request.param == "covered":
            with told_of_failure(made):
                made.cover()
        yield made
