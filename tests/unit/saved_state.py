"""A state file in a folder of the test's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from jfe_cni.agent.state_file import StateFile


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[StateFile]:
    made = StateFile(folder / "workloads.db", logging.getLogger("jfe.test"), folder / "workloads.json")
    with contextlib.closing(made):
        yield made
