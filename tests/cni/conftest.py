from tests.stage.fixtures import pytest_runtest_makereport, stage

__all__ = ["pytest_runtest_makereport", "stage"]
