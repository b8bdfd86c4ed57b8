"""`jfe run`: one command under cover, as its caller, and everything else on the host as it was."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


class Runner:
    """`jfe run` on a host of its own: a network namespace, a node's name, and so an agent that this test alone uses."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "agent.sock"
        self.node = f"test-{os.getpid()}"
        self.namespace = f"jfe-{self.node}"

    def __enter__(self) -> "Runner":
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-netns", self.namespace, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)

    def here(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *command]

    def jfe(self, *arguments: str) -> list[str]:
        return self.here(sys.executable, "-m", "jfe_cni.cli.main", *arguments)

    def start(
        self, *command: str, options: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.jfe("run", "--socket", str(self.socket), *options, "--", *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JFE_NODE": self.node} | (environment or {}),
            start_new_session=True,
        )

    def __call__(
        self, *command: str, options: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        process = self.start(*command, options=options, environment=environment)
        printed, complaint = process.communicate(timeout=120)
        return subprocess.CompletedProcess(command, process.returncode, printed, complaint)

    def workloads(self) -> dict[str, str]:
        """Name and identity of what is enrolled now."""
        asked = subprocess.run(
            self.jfe("status", "--json", "--socket", str(self.socket)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if not asked.stdout:
            assert "no agent answers" in asked.stderr, asked.stderr
            return {}
        return {each["id"]: each["identity"] for each in json.loads(asked.stdout)["workloads"]}

    def state(self) -> dict[str, object]:
        """What a `jfe run` may change while it lasts: rules, routes, sysctls and cgroups of its host."""

        def listed(*command: str) -> str:
            return subprocess.run(self.here(*command), capture_output=True, text=True, check=True).stdout

        return {
            "tables": listed("nft", "list", "ruleset"),
            "policy rules": listed("ip", "rule") + listed("ip", "-6", "rule"),
            "routes": listed("ip", "route", "show", "table", "all"),
            "sysctls": listed("sysctl", "net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect"),
            "cgroups": [p for root in ("", "unified") for p in Path("/sys/fs/cgroup", root).glob(f"jfe/{self.node}")],
        }


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runner]:
    with Runner(tmp_path) as made:
        before = made.state()
        yield made
        assert made.state() == before


# How a call is started inside a command: CALL prints nothing and fails where nobody answers.
STARTED = {
    "as a child": "{call}",
    "in a new session": "setsid --wait {call}",
    "in a cgroup below its own": "mine=$(grep ^0:: /proc/self/cgroup | cut -d: -f3); root=/sys/fs/cgroup;"
    " [ -d $root/unified ] && root=$root/unified; mkdir $root$mine/deeper;"
    " echo $$ > $root$mine/deeper/cgroup.procs; {call}",
}


class Stranger:
    """A host that is not enrolled, one link away: it keeps what it hears and answers each call with `heard`."""

    SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 9009)) as listener:
    print("ready", flush=True)
    while True:
        taken, _ = listener.accept()
        with taken:
            told = taken.recv(100)
            with open(sys.argv[2], "ab") as kept:
                kept.write(told)
            taken.sendall(b"heard")
"""
    CLIENT = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], 9009), 15); s.sendall(sys.argv[2].encode());"
        ' sys.exit(0 if s.recv(9) == b"heard" else 1)'
    )

    def __init__(self, run: Runner, folder: Path) -> None:
        self.run = run
        self.name = f"{run.namespace}-stranger"
        self.kept = folder / "heard"
        self.address = "198.18.77.9"

    def __enter__(self) -> "Stranger":
        for line in (
            f"netns add {self.name}",
            f"link add eth0 netns {self.run.namespace} type veth peer name eth0 netns {self.name}",
            f"-netns {self.run.namespace} address add 198.18.77.1/24 dev eth0",
            f"-netns {self.run.namespace} link set eth0 up",
            f"-netns {self.name} address add {self.address}/24 dev eth0",
            f"-netns {self.name} link set eth0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.name}", "--"),
                *(sys.executable, "-c", self.SERVER, self.address, str(self.kept)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        # A deleted namespace takes its end of the link away only some time later.
        subprocess.run(["ip", "-netns", self.run.namespace, "link", "delete", "eth0"], check=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def call(self, words: str) -> str:
        return shlex.join([sys.executable, "-c", self.CLIENT, self.address, words])

    def heard(self) -> str:
        return self.kept.read_text() if self.kept.exists() else ""


@pytest.fixture
def stranger(run: Runner, tmp_path: Path) -> Iterator[Stranger]:
    with Stranger(run, tmp_path) as made:
        yield made


def until_enrolled(run: Runner, *names: str) -> dict[str, str]:
    for _ in range(600):
        found = run.workloads()
        if set(names) <= set(found):
            return found
        time.sleep(0.05)
    pytest.fail(f"not enrolled: {names}")


@pytest.mark.parametrize("status", [0, 3, 77])
def test_the_exit_status_is_passed_on(run: Runner, status: int) -> None:
    assert run("sh", "-c", f"exit {status}").returncode == status


def test_what_the_command_prints_is_not_mixed_with_ours(run: Runner) -> None:
    ended = run("echo", "hello")
    assert ended.stdout == "hello\n"
    assert "starting one for this command" in ended.stderr


def test_options_of_the_command_are_its_own(run: Runner) -> None:
    assert run("echo", "--mode", "off", "--help").stdout == "--mode off --help\n"


def test_a_program_that_is_not_there_is_named_and_nothing_is_left(run: Runner) -> None:
    ended = run("/no/such/program")
    assert ended.returncode == 1
    assert "/no/such/program" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_is_in_a_cgroup_of_its_own(run: Runner) -> None:
    ended = run("sh", "-c", "grep ^0:: /proc/self/cgroup", options=("--name", "mine"))
    assert ended.stdout.rstrip().endswith("/run/mine")


def test_the_command_runs_as_the_user_who_called_sudo(run: Runner) -> None:
    caller = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY), "SUDO_USER": "nobody"}
    ended = run(
        "sh", "-c", "id -u; id -g; id -G; echo ${SUDO_UID-unset}; grep CapEff /proc/self/status", environment=caller
    )
    uid, gid, groups, sudo, capabilities = ended.stdout.splitlines()
    assert (uid, gid, groups) == (str(NOBODY), str(NOBODY), str(NOBODY))
    assert sudo == "unset"
    assert int(capabilities.split()[1], 16) == 0


def test_root_that_called_by_itself_stays_root(run: Runner) -> None:
    assert run("id", "-u").stdout == "0\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(run: Runner, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    process = run.start("sh", "-c", f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert printed == f"got {name}\n"
    assert process.returncode == 5


def test_a_command_that_a_signal_ended_is_reported_as_a_shell_would(run: Runner) -> None:
    assert run("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL


def test_what_the_command_leaves_running_ends_with_it(run: Runner, tmp_path: Path) -> None:
    left = tmp_path / "pid"
    run("sh", "-c", f"setsid sleep 600 >/dev/null 2>&1 & echo $! > {left}")
    assert not runs(int(left.read_text()))


@pytest.mark.parametrize("start", ["as a child", "in a new session", "in a cgroup below its own"])
def test_children_and_new_sessions_and_new_cgroups_stay_under_cover(
    run: Runner, stranger: Stranger, start: str
) -> None:
    """Strict: to a stranger nobody gets a plaintext byte through, however it was started."""
    ended = run("sh", "-c", STARTED[start].format(call=stranger.call("from inside")), options=("--mode", "strict"))
    assert ended.returncode != 0, ended.stderr
    assert stranger.heard() == ""


@pytest.mark.parametrize("start", ["as a child", "in a new session"])
def test_permissive_lets_the_same_call_to_a_stranger_pass(run: Runner, stranger: Stranger, start: str) -> None:
    """Without which the test above would prove nothing."""
    ended = run("sh", "-c", STARTED[start].format(call=stranger.call("from inside")))
    assert ended.returncode == 0, ended.stderr
    assert stranger.heard() == "from inside"


def test_a_command_beside_it_is_untouched(run: Runner, stranger: Stranger) -> None:
    covered = run.start("sleep", "60", options=("--mode", "strict", "--name", "covered"))
    until_enrolled(run, "covered")
    subprocess.run(run.here("sh", "-c", stranger.call("from beside")), check=True, timeout=60)
    assert stranger.heard() == "from beside"
    covered.terminate()
    covered.communicate(timeout=60)


def test_two_at_once_show_two_identities(run: Runner) -> None:
    first = run.start("sleep", "60", options=("--name", "first"))
    second = run.start("sleep", "60", options=("--name", "second"))
    found = until_enrolled(run, "first", "second")
    assert found["first"] != found["second"]
    first.terminate()
    _, complaint = first.communicate(timeout=60)
    assert set(run.workloads()) == {"second"}, (complaint, second.poll())
    second.terminate()
    second.communicate(timeout=60)
    assert run.workloads() == {}


def test_five_that_start_and_end_at_once_share_one_agent(run: Runner) -> None:
    processes = [run.start("true") for _ in range(5)]
    complaints = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, complaints


def test_the_same_name_twice_is_refused_and_the_first_goes_on(run: Runner) -> None:
    first = run.start("sleep", "60", options=("--name", "same"))
    until_enrolled(run, "same")
    second = run("true", options=("--name", "same"))
    assert second.returncode == 1
    assert "--name" in second.stderr
    assert set(run.workloads()) == {"same"}
    first.terminate()
    assert first.wait(60) == 128 + signal.SIGTERM


def test_a_killed_run_keeps_its_command_under_cover_until_the_next_has_tidied_up(run: Runner) -> None:
    killed = run.start("sh", "-c", "echo $$; exec sleep 600", options=("--name", "orphan"))
    assert killed.stdout is not None
    command = int(killed.stdout.readline())
    killed.kill()
    killed.wait()
    assert "orphan" in run.workloads()
    os.kill(command, signal.SIGKILL)
    ended = run("true")
    assert ended.returncode == 0, ended.stderr


def runs(pid: int) -> bool:
    """Whether a process does anything yet; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
