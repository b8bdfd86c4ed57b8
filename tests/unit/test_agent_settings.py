"""What the agent is told by settings and what it makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jfe_cni.agent.settings import MOST_WORKERS, Settings
from jfe_cni.errors import RequestError

BROKER = Path(__file__).parents[2] / "upgrader" / "broker" / "src" / "arguments.rs"


def test_there_is_a_worker_for_each_cpu_as_far_as_the_broker_takes_them() -> None:
    assert Settings().workers_on(4) == 4
    assert Settings().workers_on(300) == MOST_WORKERS
    assert Settings(workers=2).workers_on(300) == 2


def test_the_most_workers_are_as_many_as_the_brokers_most() -> None:
    assert re.findall(r"MOST_WORKERS: u32 = (\d+);", BROKER.read_text()) == [str(MOST_WORKERS)]


@pytest.mark.parametrize("workers", [0, -1, MOST_WORKERS + 1])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: int) -> None:
    with pytest.raises(RequestError):
        Settings(workers=workers)
