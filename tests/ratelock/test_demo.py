"""`ratelock demo`: two replicas on one PostgreSQL, started for a while, and nothing of them left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.ratelock.process import PROGRAM, ROOT
from tests.stage.deadline import eventually


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where it puts what it makes; the database's user must get through."""
    with TemporaryDirectory(prefix="jfe-demo-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


def running_in(folder: Path) -> list[str]:
    """The command lines of the processes that speak of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and process.name != str(os.getpid()):
            found.append(words.decode(errors="replace"))
    return found


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "demo", *words],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_replica_killed_under_load_lets_nothing_through_and_loses_nothing(folder: Path) -> None:
    with started(folder, "--json") as process:
        said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, said + complaint
    found = json.loads(said)
    assert set(found["promises"].values()) == {True}
    assert 0 < found["most_within_a_window"] <= found["budget"]["count"]
    assert (list(folder.iterdir()), running_in(folder)) == ([], [])


def test_the_two_stay_as_long_as_they_are_wanted(folder: Path) -> None:
    with started(folder, "--stay") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = [process.stdout.readline().split() for _ in range(5)]
        urls = [words[2] for words in said if words[0] == "replica"]
        tokens = {words[0]: words[1] for words in said if words[0] in ("owner", "caller")}
        assert run("add", "demo/alice", "--stdin", url=urls[0], token=tokens["owner"], given="right\n").returncode == 0
        listed = run("budget", "set", "secret", "demo/alice", "2/1h", url=urls[1], token=tokens["owner"])
        assert listed.returncode == 0, listed.stderr
        assert len(running_in(folder)) > 2
        process.send_signal(signal.SIGTERM)
        lines = process.stderr.read().splitlines()
        assert process.wait(timeout=60) == 0
    assert {line[:4] for line in lines} == {"a | ", "b | "}
    assert (list(folder.iterdir()), running_in(folder)) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_one_that_is_interrupted_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with started(folder) as process:
        eventually(lambda: len(running_in(folder)) > 3, "a replica runs")
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in complaint
    assert (list(folder.iterdir()), running_in(folder)) == ([], [])


def run(*words: str, url: str, token: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RATELOCK_URL": url, "RATELOCK_TOKEN": token}
    return subprocess.run(
        [*PROGRAM, *words], input=given, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60,
        check=False,
    )  # fmt: skip
