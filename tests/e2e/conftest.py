from tests.stage.fixtures import pair, permissive, pytest_runtest_makereport, stage

__all__ = ["pair", "permissive", "pytest_runtest_makereport", "stage"]
