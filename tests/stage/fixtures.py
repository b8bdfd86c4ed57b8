"""The stage as pytest fixtures; a conftest.py imports what its tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import pytest

from tests.stage.stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Bare hosts of this test's own."""
    with Stage() as made:
        yield made


@pytest.fixture(scope="module")
def pair() -> Iterator[Stage]:
    """Both hosts covered, strict; shared by a module's tests."""
    with Stage() as made:
        with told_of_failure(made):
            made.cover()
        yield made


@pytest.fixture(scope="module")
def permissive() -> Iterator[Stage]:
    """Both hosts covered; b lets strangers in."""
    with Stage() as made:
        with told_of_failure(made):
            made.cover(mode_b="permissive")
        yield made


@contextlib.contextmanager
def told_of_failure(stage: Stage) -> Iterator[None]:
    """What a fixture prints before it fails is all that its test's report has."""
    try:
        yield
    except BaseException:
        print(stage.diagnosis())
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells how to enter its namespaces, and what agents, upgraders and programs have said."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Stage):
                report.sections.append((f"stage `{name}`", value.diagnosis()))
    return report
