"""How amounts and moments reach a person."""

import asyncio
import time

import pytest

from jfe_cni.cli.run import default_name
from jfe_cni.cli.show import amount, moment, patience, remaining
from jfe_cni.rules.model import check_workload


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_500_000, "1.5 MB"), (3 * 10**12, "3.0 TB")],
)
def test_bytes_have_the_unit_that_leaves_few_digits(count: int, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(7, "in 7 s"), (-7, "7 s ago"), (7_200, "in 2 h"), (90, "in 2 min"), (-172_800, "2 d ago")]
)
def test_time_is_told_in_one_unit(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


def test_a_moment_that_is_not_known_is_a_dash() -> None:
    assert moment(None) == "–"
    assert moment(time.time() + 3_601).endswith("(in 1 h)")


@pytest.mark.parametrize("program", ["/usr/bin/curl", "Weird Näme!", "--", "x" * 300, "a.b_c"])
def test_the_name_made_from_a_program_is_one_that_a_workload_can_have(program: str) -> None:
    check_workload(default_name(program, 4_194_304))


async def test_what_ends_soon_is_done_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    async with patience("something"):
        await asyncio.sleep(0)
    assert capsys.readouterr().err == ""
