"""A systemd unit under cover, by a systemd of the test's own: it and the agent see a host whose process 1 it is."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.kernel.cgroups import CgroupTree
from tests.e2e.command import SERVER, client, jfe, jfe_run
from tests.e2e.talk import dialled, is_reset
from tests.stage import Process, Stage, eventually
from tests.stage.fixtures import told_of_failure

PORT = 7201
UNIT = "greeter.service"
# Nothing of the real /tmp and /var/tmp can be reached, for what systemd starts by itself clears them; and by itself it
# starts nothing, for what any unit depends on is empty here. The folders that are named may lie there, and are kept.
BOOT = """
set -e
cgroup=$1; shift
echo 0 > "$cgroup/cgroup.procs"
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
for folder; do
    mkdir -p "/run/kept/$folder"
    mount --rbind "$folder" "/run/kept/$folder"
done
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs -o mode=1777 tmpfs /tmp
for folder; do
    mkdir -p "$folder"
    mount --rbind "/run/kept/$folder" "$folder"
done
cd /run/systemd/system
for target in sysinit basic alone; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > $target.target
done
for service in systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-clean systemd-journald; do
    ln -s /dev/null $service.service
done
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --system --unit=alone.target --show-status=no
"""


class Booted:
    """A systemd, process 1 of namespaces of its own, with the network of host b."""

    def __init__(self, stage: Stage, cgroup: Path) -> None:
        self.stage = stage
        words = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--")
        kept = (str(stage.folder), str(Path.cwd()))
        self.outer = stage.b.spawn([*words, "bash", "-c", BOOT, "bash", str(cgroup), *kept], name="systemd")
        eventually(lambda: self._child() is not None, "it has a process 1", otherwise=self.outer.output)
        eventually(self._answers, "systemd answers", otherwise=self.outer.output)

    def _child(self) -> str | None:
        # nsenter has become unshare, and its one child is process 1.
        return next(iter(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()), None)

    def _answers(self) -> bool:
        self.outer.check_alive("it was expected to answer")
        return self.stage.b.run(self.inside("systemctl", "show", "--property=Version"), check=False).returncode == 0

    def inside(self, *command: str) -> list[str]:
        child = self._child()
        assert child is not None
        return ["nsenter", f"--target={child}", "--mount", "--pid", "--uts", "--ipc", "--", *command]

    def run(self, *command: str) -> str:
        return self.stage.b.run(self.inside(*command)).stdout.decode()

    def jfe(self, *words: str) -> str:
        verb, *more = words
        return self.run(*jfe(verb, "--socket", str(self.stage.b.socket_path), *more))

    def start_agent(self) -> Process:
        folder, socket = str(self.stage.b.folder), str(self.stage.b.socket_path)
        agent = jfe("agent", "--on-exit", "remove", "--workers", "1", "--node", self.stage.b.name)
        agent += ["--state-dir", folder, "--socket", socket, "--trust-domain", "jfe.test"]
        agent += ["--authority-dir", str(self.stage.folder / "authority")]
        return self.stage.b.spawn(self.inside(*agent), ready=self._covers, name="agent")

    def _covers(self) -> bool:
        asked = jfe("status", "--json", "--socket", str(self.stage.b.socket_path))
        ended = self.stage.b.run(self.inside(*asked), check=False)
        return ended.returncode == 0 and json.loads(ended.stdout)["upgrader_connected"]

    def state(self) -> str:
        (workload,) = json.loads(self.jfe("status", "--json"))["workloads"]
        return str(workload["state"])


@pytest.fixture
def booted() -> Iterator[Booted]:
    with Stage() as stage, told_of_failure(stage), _cgroup(stage.name) as cgroup:
        stage.a.start_agent()
        made = Booted(stage, cgroup)
        agent = made.start_agent()
        yield made
        # By its number in there: the nsenter outside would end alone.
        made.run("kill", str(json.loads(made.jfe("status", "--json"))["agent_pid"]))
        assert agent.wait() == 0, agent.output()
        made.outer.stop()


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """Where that systemd lives, in each hierarchy that it finds: what it makes is below."""
    tree = CgroupTree.found()
    top = tree.create(f"jfe/{name}/systemd")
    try:
        yield top.path
    finally:
        top.kill()
        top.remove()
        tree.create(f"jfe/{name}-b").remove()
        # Of a host with both hierarchies, systemd's own of the first, which it finds by the same name.
        for left in (Path("/sys/fs/cgroup/systemd/jfe", name), Path("/sys/fs/cgroup/systemd/jfe")):
            for path in sorted(left.glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()


def test_a_unit_is_covered_again_after_a_restart_and_its_server_sees_who_calls(booted: Booted) -> None:
    stage, word = booted.stage, secrets.token_hex(16)
    booted.run("systemd-run", "--quiet", "--unit", UNIT, "--", sys.executable, "-c", SERVER, str(PORT))
    eventually(lambda: stage.b.listening(PORT), "the unit listens")
    booted.jfe("enroll", "--mode", "strict", "--unit", UNIT, "--name", "greeter")
    whom = f"spiffe://jfe.test/host/{stage.b.name}/unit/{UNIT}"
    assert whom in booted.jfe("status")
    stage.a.know(stage.b, identity=whom, port=PORT)
    for _ in range(2):
        eventually(lambda: booted.state() == "covered", "the unit is covered")
        eventually(lambda: stage.b.listening(PORT), "the unit listens")
        with stage.capture() as wire:
            answer = stage.a.run(jfe_run(stage.a, "caller", *client(stage.b.ipv4, PORT, word)))
        assert answer.stdout.decode().split() == [stage.a.ipv4]
        assert wire.tls(PORT)
        assert not wire.contains(word.encode())
        with dialled(stage.stranger, stage.b.ipv4, PORT) as stranger:
            stranger.sendall(b"plain")
            assert is_reset(stranger)
        # Its cgroup is made anew, and has another number.
        booted.run("systemctl", "restart", UNIT)


def test_a_unit_that_is_not_there_is_named(booted: Booted) -> None:
    booted.run("systemd-run", "--quiet", "--unit", UNIT, "--", "sleep", "1000")
    enroll = jfe("enroll", "--socket", str(booted.stage.b.socket_path), "--unit", "nobody.service")
    ended = booted.stage.b.run(booted.inside(*enroll), check=False)
    assert ended.returncode == 1
    assert b"nobody.service" in ended.stderr
    assert b"Traceback" not in ended.stderr
