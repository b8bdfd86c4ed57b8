"""The command line as a shell meets it: exit statuses, errors said once, help for every verb."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

VERBS = [
    "agent",
    "ca",
    "cni",
    "completion",
    "connections",
    "demo",
    "directory",
    "doctor",
    "enroll",
    "explain",
    "rules",
    "run",
    "status",
    "unenroll",
]
LISTINGS = (("status",), ("connections",), ("rules",), ("explain", "10.0.0.1:80"), ("directory",), ("ca", "show"))


def jfe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jfe_cni.cli.main", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_says_what_it_does(verb: str) -> None:
    found = jfe(verb, "--help")
    assert found.returncode == 0
    assert "Usage: jfe" in found.stdout


def test_help_lists_every_verb_and_no_other() -> None:
    listed = jfe("--help").stdout.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == VERBS


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_without_an_agent_a_listing_says_once_what_to_do(
    listing: tuple[str, ...], form: tuple[str, ...], tmp_path: Path
) -> None:
    found = jfe(*listing, *form, "--socket", str(tmp_path / "agent.sock"))
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.count("no agent answers") == 1
    assert "jfe agent" in found.stderr
    assert "Traceback" not in found.stderr


def test_following_connections_without_an_agent_ends_with_the_same_words(tmp_path: Path) -> None:
    found = jfe("connections", "--follow", "--socket", str(tmp_path / "agent.sock"))
    assert found.returncode == 1
    assert "no agent answers" in found.stderr
    assert "Traceback" not in found.stderr


def test_the_socket_is_taken_from_the_environment(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sock"
    found = subprocess.run(
        [sys.executable, "-m", "jfe_cni.cli.main", "status"],
        env={"JFE_SOCKET": str(elsewhere), "PATH": "/usr/bin"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(elsewhere) in found.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ("no-such-verb",),
        ("enroll",),
        ("enroll", "--pid", "1", "--netns", "/run/netns/x"),
        ("enroll", "--pid", "1", "--mode", "off"),
        ("enroll", "--pid", "1", "--exclude-inbound-ports", "0"),
        ("enroll", "--pid", "1", "--exclude-inbound-ports", "80,http"),
        ("enroll", "--pid", "1", "--exclude-outbound-networks", "10.0.0.1/8"),
        ("unenroll",),
        ("unenroll", "--all", "x"),
        ("run",),
        ("agent", "--workers", "0"),
        ("agent", "--workers", "257"),
        ("agent", "--metrics", "9090"),
        ("agent", "--metrics", "127.0.0.1:99999"),
        ("agent", "--mark", "many"),
        ("ca", "rotate", "again"),
        ("cni", "install", "--chain", "both"),
        ("cni", "install", "--deadline", "0"),
        ("cni", "uninstall", "--watch"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_is_status_2_and_names_what_is_wrong(wrong: tuple[str, ...]) -> None:
    found = jfe(*wrong)
    assert found.returncode == 2
    assert "Error:" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_workloads_name_of_other_letters_is_refused_with_what_to_do() -> None:
    found = jfe("run", "--name", "Über", "--", "true")
    assert found.returncode == 1
    assert "a-z" in found.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_completion_script(shell: str) -> None:
    found = jfe("completion", shell)
    assert found.returncode == 0
    assert "_JFE_COMPLETE" in found.stdout


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m jfe_cni.cli.main --help | true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_doctor_names_each_thing_once_and_says_how_to_mend_what_is_missing() -> None:
    findings = json.loads(jfe("doctor", "--json").stdout)
    subjects = [finding["subject"] for finding in findings]
    assert len(subjects) == len(set(subjects))
    assert {"root", "kernel", "nft", "cgroup v2", "rules match by cgroup", "seccomp", "upgrader"} <= set(subjects)
    assert all(finding["remedy"] for finding in findings if not finding["ok"])


def test_doctor_leaves_no_cgroup_behind() -> None:
    jfe("doctor")
    assert not [*Path("/sys/fs/cgroup").glob("jfe-doctor-*"), *Path("/sys/fs/cgroup").glob("unified/jfe-doctor-*")]
