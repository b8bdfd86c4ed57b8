"""The description that is served is the one that is committed, and the service keeps to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from jfe_cni.ratelock.api.app import description
from jfe_cni.ratelock.api.problems import types_table
from jfe_cni.ratelock.settings import SETTINGS
from tests.ratelock.process import Dev, dev_service

AGAIN = "run python dev/ratelock_documents.py"
DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = [(method, path) for path, methods in description()["paths"].items() for method in methods]
# Whether what fits the schema is accepted depends on what is in the store, and whether a name or a token that was
# removed is gone on what came before: schemathesis sends single requests here.
NOT_APPLICABLE = {"positive_data_acceptance", "use_after_free", "ensure_resource_availability"}
# To those that schemathesis expects for what doesn't fit: too long to be looked at.
REFUSALS = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 414, 422, 429]}}}
)


def test_the_description_that_is_committed_is_the_one_that_is_served() -> None:
    assert json.loads((DOCS / "ratelock-openapi.json").read_text()) == description(), AGAIN


@pytest.mark.parametrize("table", [SETTINGS.table(), types_table()], ids=["settings", "problems"])
def test_the_tables_of_the_documents_are_those_of_the_code(table: str) -> None:
    assert table in (DOCS / "ratelock.md").read_text(), AGAIN


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    cheap = {"RATELOCK_PASSWORD_MEMORY": "32", "RATELOCK_PASSWORD_ITERATIONS": "1", "RATELOCK_PASSWORD_LANES": "1"}
    with dev_service(tmp_path_factory.mktemp("schemathesis"), **cheap) as running:
        yield running


def test_it_is_served_to_who_asks(dev: Dev) -> None:
    answer = httpx.get(f"{dev.kept['url']}/openapi.json", timeout=10)
    assert answer.json() == description()
    assert answer.json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fit", "unfit"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_the_service_keeps_to_its_description(dev: Dev, method: str, path: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{dev.kept['url']}/openapi.json", config=REFUSALS)
    operation = schema[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
        return
    spends = path.startswith("/v1/secrets/{name}/")
    token = dev.kept["caller" if spends else "owner"]
    checks = [check for check in CHECKS.get_all() if check.__name__ not in NOT_APPLICABLE]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def keeps(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=checks)

    keeps()
    alive = httpx.get(f"{dev.kept['url']}/readyz", timeout=10)
    assert alive.json() == {"status": "ready"}
