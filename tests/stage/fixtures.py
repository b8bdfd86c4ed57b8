"""The stage as pytest fixtures; a conftest.py imports what its tests use."""

from __future__ import annotations

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
        with _told(made):
            made.cover()
        yield made


@pytest.fixture(scope="module")
def permissive() -> Iterator[Stage]:
    """Both hosts covered; b lets strangers in."""
    with Stage() as made:
        with _told(made):
            made.cover(mode_b="permissive")
        yield made


class _told:  # noqa: N801 - read as a verb
    """What a fixture prints when it fails is all that its test's report has."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            print(self._stage.diagnosis())


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
