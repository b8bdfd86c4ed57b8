"""Every command in the documents works, or is listed here with the reason why a test does not run it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click import BadParameter, Command, Group

from jfe_cni.cli.main import jfe
from jfe_cni.overflowd.cli.main import overflowd
from jfe_cni.ratelock.cli.main import ratelock

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
FENCE = re.compile(r"^```(?:console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)

PROGRAMS: dict[str, Group] = {"jfe": jfe, "ratelock": ratelock, "overflowd": overflowd}
# Not run as they stand; each is parsed all the same, so that no option in the documents is unknown.
NOT_RUN = {
    "make demo": "tests/e2e/test_demo.py runs what it runs",
    "make test": "is what runs this test",
    "make demo-ratelock": "tests/ratelock/test_demo.py runs what it runs",
    "ratelock demo": "tests/ratelock/test_demo.py",
    "make check": "runs beside this test in .ci/run",
    "make setup": "has been run before this test",
    "jfe run": "tests/e2e/test_run.py",
    "jfe agent": "tests/e2e starts agents in state folders of their own",
    "jfe cni": "tests/cni/test_install.py and test_uninstall.py, on folders that are not the host's",
    "jfe enroll": "names workloads of the reader's",
    "jfe unenroll": "names workloads of the reader's",
    "jfe status": "needs the reader's agent",
    "jfe connections": "needs the reader's agent",
    "jfe explain": "needs the reader's agent",
    "jfe rules": "needs the reader's agent",
    "overflowd read": "tests/overflowd/test_quick_start.py and test_captures.py, on captures of their own",
    "overflowd run": "tests/overflowd/test_run.py and test_run_sending.py",
    "overflowd receive": "tests/overflowd/test_receiver_commands.py",
    "overflowd tail": "tests/overflowd/test_receiver_commands.py",
    "overflowd alone": "tests/overflowd/test_leaving_alone.py",
    "overflowd keys": "tests/overflowd/test_run.py",
    "ratelock serve": "tests/ratelock/test_cli.py",
    "ratelock add": "tests/ratelock/test_cli.py",
    "ratelock budget": "tests/ratelock/test_cli.py",
    "ratelock log": "tests/ratelock/test_cli.py",
    "ratelock token": "tests/ratelock/test_cli.py",
    "while sleep": "tests/ratelock/test_cli.py",
    "ratelock lambda": "tests/ratelock/test_serverless.py",
    "RATELOCK_KEY_ENCRYPTION_KEY=$KEY ratelock": "names a table of the reader's",
    "aws cloudformation": "needs an account of AWS",
    "aws s3": "needs an account of AWS",
}


def commands() -> list[str]:
    """Each line after a prompt (`$`, or `#` for root) in a fence of a shell session."""
    found = []
    for document in sorted(DOCUMENTS):
        for fence in FENCE.findall(document.read_text()):
            # A command may go on in the next line, as in a shell.
            lines = fence.replace("\\\n", "").splitlines()
            found += [line[2:] for line in lines if line.startswith(("$ ", "# "))]
    return sorted(set(found))


def words_of(command: str) -> tuple[str, ...]:
    return tuple(shlex.split(command))


@pytest.mark.parametrize("command", commands())
def test_the_command_works_or_says_why_it_is_not_run(command: str) -> None:
    words = words_of(command)
    if " ".join(words[:2]) in NOT_RUN:
        return
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("command", [each for each in commands() if each.split()[0] in PROGRAMS])
def test_every_command_of_ours_in_the_documents_has_known_verbs_and_options(command: str) -> None:
    # What the shell does with it is not ours.
    program, *arguments = words_of(re.split(r" [|>&]", command)[0])
    verb: Command = PROGRAMS[program]
    while isinstance(verb, Group):
        found = verb.get_command(verb.make_context(program, [], resilient_parsing=True), arguments[0])
        assert found is not None, command
        verb, arguments = found, arguments[1:]
    # Parsing alone: nothing is called. An unknown option raises; the reader's files need not be here.
    try:
        verb.make_context(verb.name, arguments)
    except BadParameter as error:
        if "does not exist" not in error.message:
            raise


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("make ")])
def test_every_target_in_the_documents_is_in_the_makefile(command: str) -> None:
    ended = subprocess.run(["make", "--dry-run", words_of(command)[1]], cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_no_reason_is_left_for_a_command_that_is_gone() -> None:
    here = {" ".join(words_of(command)[:2]) for command in commands()}
    assert set(NOT_RUN) <= here
