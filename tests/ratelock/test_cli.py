"""`ratelock` as a person uses it: the demo of 2016, and the other verbs."""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.ratelock.demo import postgresql
from tests.ratelock.process import PROGRAM, ROOT, Dev, dev_service

CHEAP = {"RATELOCK_PASSWORD_MEMORY": "32", "RATELOCK_PASSWORD_ITERATIONS": "1", "RATELOCK_PASSWORD_LANES": "1"}


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    with dev_service(tmp_path, **CHEAP) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev_service(tmp_path_factory.mktemp("shared"), **CHEAP) as running:
        yield running


def test_the_demo_of_2016(tmp_path: Path) -> None:
    """At what Argon2id costs by default."""
    with dev_service(tmp_path) as dev:
        assert dev.run("add", "alice", "--stdin", given="correct horse\n").returncode == 0
        script = 'while sleep .25; do "$@" check alice --stdin <<<"$PW" || exit; done'
        looped = subprocess.run(
            ["bash", "-c", script, "bash", *PROGRAM],
            env=dev.environment | {"PW": "correct horse"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert looped.returncode == 2
    assert looped.stdout == "true\ntrue\ntrue\n"
    said = re.fullmatch(r"budget spent, next in (\d+\.\d) s\n", looped.stderr)
    assert said is not None, looped.stderr
    assert 0 < float(said[1]) <= 10


def test_a_wrong_password_is_false_and_a_name_that_nobody_has_too(dev: Dev) -> None:
    dev.run("add", "alice", "--stdin", given="right\n")
    for words, given, said, status in (
        (("check", "alice", "--stdin"), "right\n", "true\n", 0),
        (("check", "alice", "--stdin"), "right", "true\n", 0),
        (("check", "alice", "--stdin"), "wrong\n", "false\n", 1),
        (("check", "nobody", "--stdin"), "right\n", "false\n", 1),
    ):
        done = dev.run(*words, given=given)
        assert (done.stdout, done.returncode) == (said, status)


def test_records_keys_budgets_and_tokens(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"number": "4111", "name": "A. Person"}')
    assert dev.run("add", "card", "--record", str(tmp_path / "record.json"), "--class", "cards").returncode == 0
    assert json.loads(dev.run("release", "card", "number").stdout) == {"number": "4111"}
    assert dev.run("add", "key", "--key", "ed25519").stdout.startswith("-----BEGIN PUBLIC KEY-----")
    assert dev.run("budget", "set", "secret", "card", "1/1h,2/1d", "--loosening-delay", "1h").stdout == (
        "1 in 3600 s, 2 in 86400 s; loosens after 3600 s\n"
    )
    assert dev.run("budget", "remove", "secret", "card").stdout.endswith("none\n")
    assert "card" in dev.run("budget", "list").stdout
    spent = dev.run("release", "card", "name")
    assert (spent.returncode, spent.stdout) == (2, "")
    made = dev.run("token", "make", "web", "--operation", "check", "--secret", "web/*", "--expires-in", "1h")
    token, digest = made.stdout.strip(), made.stderr.split()[-1]
    narrow = dev.run("release", "card", "number", RATELOCK_TOKEN=token)
    assert narrow.returncode == 3
    assert "may not release" in narrow.stderr
    assert dev.run("token", "revoke", digest).returncode == 0
    gone = dev.run("check", "web/a", "--stdin", given="x\n", RATELOCK_TOKEN=token)
    assert gone.returncode == 3
    assert "Traceback" not in gone.stderr


def test_the_log_is_read_exported_and_verified(dev: Dev, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        dev.run("check", name, "--stdin", given="x\n")
    last = dev.run("log", "tail", "-n", "2").stdout.splitlines()
    assert [line.split()[-1] for line in last] == ["b", "c"]
    exported = tmp_path / "export"
    exported.write_text(dev.run("log", "export").stdout)
    kept = dev.run("log", "checkpoint")
    (tmp_path / "checkpoints").write_text(kept.stdout)
    (tmp_path / "key.pem").write_text(kept.stderr)
    anchored = ("--checkpoints", str(tmp_path / "checkpoints"), "--public-key", str(tmp_path / "key.pem"))
    whole = dev.run("log", "verify", *anchored)
    assert (whole.returncode, "hold" in whole.stdout) == (0, True)
    assert dev.run("log", "verify", "--file", str(exported)).returncode == 0
    lines = exported.read_text().splitlines(keepends=True)
    exported.write_text("".join(lines).replace('"subject": "b"', '"subject": "z"'))
    tampered = dev.run("log", "verify", "--file", str(exported))
    number = next(json.loads(line)["number"] for line in lines if '"subject": "b"' in line)
    assert tampered.returncode == 1
    assert f"entry {number}: changed" in tampered.stdout
    exported.write_text("".join(lines[:-1]))
    assert dev.run("log", "verify", "--file", str(exported)).returncode == 0
    cut = dev.run("log", "verify", "--file", str(exported), *anchored)
    assert (cut.returncode, "cut off" in cut.stdout) == (1, True)


def test_what_serve_leaves_is_for_nobody_else_and_goes_with_it(tmp_path: Path) -> None:
    with dev_service(tmp_path, **CHEAP) as dev:
        assert stat.S_IMODE(dev.file.stat().st_mode) == 0o600
        assert stat.S_IMODE(dev.file.parent.stat().st_mode) == 0o700
        printed = (tmp_path / "out").read_text()
        assert dev.kept["owner"] in printed
        assert dev.kept["caller"] in printed
        assert dev.process is not None
        dev.process.send_signal(signal.SIGTERM)
        assert dev.process.wait(30) == 0
        assert not dev.file.exists()
    assert (tmp_path / "err").read_text() == ""
    gone = dev.run("check", "alice", "--stdin", given="x\n")
    assert gone.returncode == 3
    assert "serve --dev" in gone.stderr


def test_a_folder_that_is_named_is_found_again(tmp_path: Path) -> None:
    folder = ("--folder", str(tmp_path / "kept"))
    with dev_service(tmp_path, *folder, **CHEAP) as dev:
        dev.run("add", "alice", "--stdin", given="right\n")
        tokens = (dev.kept["owner"], dev.kept["caller"])
    with dev_service(tmp_path, *folder, **CHEAP) as dev:
        assert (dev.kept["owner"], dev.kept["caller"]) == tokens
        assert dev.run("check", "alice", "--stdin", given="right\n").stdout == "true\n"


def test_a_service_in_earnest_with_its_first_token(tmp_path: Path) -> None:
    config = tmp_path / "ratelock.toml"
    config.write_text(
        f'store = "sqlite:///{tmp_path}/store.db"\nkey = "file:{tmp_path}/key"\nlisten = "unix:{tmp_path}/socket"\n'
        "password_memory = 32\npassword_iterations = 1\npassword_lanes = 1\n"
    )
    environment = {"RATELOCK_CONFIG": str(config), "PATH": "/usr/bin:/bin", "RATELOCK_URL": f"unix:{tmp_path}/socket"}
    dev = Dev(environment, None)
    lost, token = (dev.run("token", "first").stdout.strip() for _ in range(2))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*PROGRAM, "serve"], env=environment, cwd=ROOT, stderr=log)
    try:
        while dev.run("budget", "list", RATELOCK_TOKEN=token).returncode != 0:
            assert process.poll() is None
        assert dev.run("budget", "list", RATELOCK_TOKEN=lost).returncode == 3
        assert dev.run("add", "alice", "--stdin", given="right\n", RATELOCK_TOKEN=token).returncode == 0
        third = dev.run("token", "first")
        assert (third.returncode, "the store has an owner" in third.stderr) == (3, True)
        denied = dev.run("check", "alice", "--stdin", given="right\n", RATELOCK_TOKEN=token)
        assert (denied.returncode, "is an owner" in denied.stderr) == (3, True)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert (events[0], events[-1]) == ("serving", "stopped")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("add", "alice", "--stdin", "--key", "ed25519"), 64, "choose one"),
        (("check",), 64, "Missing argument"),
        (("budget", "set", "secret", "a", "three/10s"), 3, "3/10s"),
        (("budget", "set", "all", "a", "3/10s"), 3, "write all"),
        (("budget", "set", "caller", "3/10s"), 64, "Missing argument"),
        (("token", "make", "x", "--expires-in", "soon"), 3, "10s"),
        (("check", "../x", "--stdin"), 3, "letters, digits"),
        (("serve", "--store", "mysql://x", "--key", "environment:NONE"), 3, "ratelock: "),
        (("serve", "--listen", "nowhere"), 3, "ratelock: "),
        (("serve", "--body-limit", "many"), 3, "give a number"),
        (("serve", "--folder", "x"), 64, "goes with --dev"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else None,
)
def test_what_can_t_be_done_is_said_once_with_what_to_do(
    shared: Dev, words: tuple[str, ...], status: int, said: str
) -> None:
    done = shared.run(*words, given="x\n", RATELOCK_STORE="sqlite:////nowhere/x/y", RATELOCK_KEY="environment:NONE")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bench_measures_every_operation_beside_the_plain_transaction(tmp_path: Path) -> None:
    with postgresql.server() as database:
        done = subprocess.run(
            [*PROGRAM, "bench", "--seconds", "0.1", "--store", database.database()],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    rows = [line.rsplit(maxsplit=5) for line in done.stdout.splitlines() if line and "callers" not in line]
    figures = [(row[0], int(row[1])) for row in rows]
    once = [(name, callers) for callers in (1, 8, 64) for name in ("plain", "release", "sign")]
    over_http = [("plain, HTTP" if name == "plain" else name, callers) for name, callers in once]
    assert figures == (once + over_http) * 2
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_rotated_beside_the_running_service(tmp_path: Path) -> None:
    """The four steps of docs/ratelock.md, by flags and environment; a replica of each step answers."""
    folder, former, new = tmp_path / "kept", tmp_path / "kept" / "key", tmp_path / "new"
    store = {"RATELOCK_STORE": f"sqlite:///{folder / 'store.db'}"}
    with dev_service(tmp_path, "--folder", str(folder), RATELOCK_FORMER_KEYS=f"file:{new}", **CHEAP) as dev:
        assert dev.run("add", "alice", "--stdin", given="right\n").returncode == 0
    both = CHEAP | {"RATELOCK_KEY": f"file:{new}", "RATELOCK_FORMER_KEYS": f"file:{former}"}
    with dev_service(tmp_path, "--folder", str(folder), "--key", f"file:{new}", **both) as dev:
        assert dev.run("check", "alice", "--stdin", given="right\n").stdout == "true\n"
        assert dev.run("reseal", **store, **both).stdout == "2 sealed anew\n"
        assert dev.run("reseal", **store, **both).stdout == "0 sealed anew\n"
        assert dev.run("check", "alice", "--stdin", given="right\n").stdout == "true\n"
        assert "host" in dev.run("log", "tail").stdout
    former.unlink()
    alone = CHEAP | {"RATELOCK_KEY": f"file:{new}"}
    with dev_service(tmp_path, "--folder", str(folder), "--key", f"file:{new}", **alone) as dev:
        assert dev.run("check", "alice", "--stdin", given="right\n").stdout == "true\n"


def test_what_a_password_costs_is_measured_and_never_less_than_recommended() -> None:
    done = subprocess.run(
        [*PROGRAM, "calibrate", "--milliseconds", "1"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout == "password_memory = 65536\npassword_iterations = 3\npassword_lanes = 4\n"
