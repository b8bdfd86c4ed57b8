"""How amounts and moments reach a person."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

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


# Impatient, and busy until its input ends (or nobody will end it).
BUSY = """
import asyncio, select, sys
from jfe_cni.cli import show
show.PATIENCE_SECONDS = 0
async def work():
    async with show.patience("enrolling web"):
        await asyncio.to_thread(select.select, [sys.stdin], [], [], 20)
asyncio.run(work())
"""
ERASE_LINE = b"\x1b[2K"


def busy(stderr: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    return subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stderr=stderr, env=environment)


def shown_at(terminal: int) -> Iterator[bytes]:
    """Until nobody has it open any more: then the kernel says EIO."""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            yield part


def test_what_takes_long_moves_on_a_terminal_and_is_gone_once_done() -> None:
    terminal, its_end = os.openpty()
    with busy(its_end) as process:
        os.close(its_end)
        shown = b""
        for part in shown_at(terminal):
            shown += part
            assert process.stdin is not None
            if shown.count(b"enrolling web") >= 3 and not process.stdin.closed:
                process.stdin.close()
    os.close(terminal)
    assert process.returncode == 0
    assert shown.count(b"enrolling web") >= 3
    assert shown.endswith(ERASE_LINE)


def test_what_takes_long_says_so_once_where_there_is_no_terminal() -> None:
    with busy(subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.stderr.readline().decode() == "enrolling web …\n"
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
