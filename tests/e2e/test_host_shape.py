"""One command, unit or cgroup of a host under cover: whom its peers see, and all else on the host as it was."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import (
    ACTIVATED,
    ACTIVATED_SERVER,
    CLIENT,
    SERVER,
    cgroup,
    client,
    identity,
    jfe,
    jfe_run,
    served,
    speaker,
    within,
)
from tests.e2e.talk import Echo, dialled, is_reset, listening, passage, received, talking
from tests.stage import Stage, eventually, program
from tests.stage.fixtures import told_of_failure
from tests.stage.place import Version

PORT = 7101
OTHER = 7102
INNER = 7103


@pytest.fixture(scope="module")
def hosts() -> Iterator[Stage]:
    """Agents on both, and nothing enrolled."""
    with Stage() as made:
        with told_of_failure(made):
            made.start_agents()
        yield made


@pytest.fixture(scope="module")
def server(hosts: Stage) -> Iterator[str]:
    """Under `jfe run` on b, and known to a. Gives its identity."""
    with served(hosts.b, "server", PORT):
        whom = identity(hosts.b, "server")
        hosts.a.know(hosts.b, identity=whom, port=PORT)
        yield whom


def test_a_command_on_a_host_without_an_agent_is_told_its_peers_by_a_file(hosts: Stage, server: str) -> None:
    word = secrets.token_hex(16)
    folder = hosts.folder / "no-agent"
    folder.mkdir(mode=0o700)
    peers = folder / "peers.txt"
    peers.write_text(f"{hosts.b.ipv4} {PORT}\n")
    run = (
        *("env", "JFE_TRUST_DOMAIN=jfe.test", f"JFE_NODE={hosts.stranger.name}"),
        *jfe("run", "--socket", str(folder / "agent.sock"), "--mode", "strict", "--name", "alone"),
        *("--directory", str(peers), "--authority-dir", str(hosts.folder / "authority")),
    )
    with hosts.capture() as wire:
        answer = hosts.stranger.run([*run, "--", *client(hosts.b.ipv4, PORT, word)])
    assert answer.stdout.decode().split() == [hosts.stranger.ipv4]
    assert wire.tls(PORT)
    assert not wire.contains(word.encode())


@pytest.mark.parametrize("version", [4, 6])
def test_the_server_sees_the_clients_address(hosts: Stage, server: str, version: Version) -> None:
    word = secrets.token_hex(16)
    with hosts.capture() as wire:
        answer = hosts.a.run(jfe_run(hosts.a, f"client-{version}", *client(hosts.b.address(version), PORT, word)))
    assert answer.stdout.decode().split() == [hosts.a.address(version)]
    assert wire.tls(PORT)
    assert not wire.contains(word.encode())
    assert hosts.b.told(direction="inbound", reason="mutual", peer=identity(hosts.a, f"client-{version}"))
    assert hosts.a.told(direction="outbound", reason="mutual", peer=server, workload=f"client-{version}")


def test_two_commands_at_once_show_two_identities_to_a_peer(hosts: Stage, server: str) -> None:
    script = f'sleep 300 & {sys.executable} -c "$1" {hosts.b.ipv4} {PORT} word && echo done && wait'
    names = ("first", "second")
    both = [hosts.a.spawn(jfe_run(hosts.a, name, "sh", "-c", script, "sh", CLIENT), name=name) for name in names]
    for each in both:
        each.says("done")
    assert {"first", "second"} <= {each.id for each in hosts.a.ask(lambda agent: agent.workloads())}
    for each, name in zip(both, names, strict=True):
        assert hosts.b.told(direction="inbound", reason="mutual", peer=identity(hosts.a, name))
        each.stop()


def test_an_ordinary_users_command_is_covered_as_theirs(hosts: Stage, server: str) -> None:
    """As `sudo jfe run` starts it (sudo(8), ENVIRONMENT): the command has no more rights than who called."""
    caller = {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}
    # Python may lie where only root can read.
    call = f"exec 3<>/dev/tcp/{hosts.b.ipv4}/{PORT}; read -r address port <&3; echo $address"
    script = f"id -u; grep CapEff /proc/self/status; {call}"
    answer = hosts.a.run(jfe_run(hosts.a, "ordinary", program("bash"), "-c", script), env=caller)
    assert answer.stdout.decode().split() == ["65534", "CapEff:", "0000000000000000", hosts.a.ipv4]
    assert hosts.b.told(direction="inbound", reason="mutual", peer=identity(hosts.a, "ordinary"))


def test_without_root_it_says_what_to_type(hosts: Stage) -> None:
    """The checkout may be closed to others: it is read while still root."""
    source = "import os, sys; os.setgid(65534); os.setuid(65534); from jfe_cni.cli.main import main; main()"
    preloaded = "import jfe_cni.cli.main; " + source
    ended = hosts.a.run([sys.executable, "-c", preloaded, "run", "--", "true"], check=False)
    assert ended.returncode == 1
    assert b"needs root" in ended.stderr
    assert b"sudo jfe run -- true" in ended.stderr


@pytest.mark.parametrize("version", [4, 6])
def test_a_strangers_plaintext_does_not_reach_a_strict_server(hosts: Stage, server: str, version: Version) -> None:
    with dialled(hosts.stranger, hosts.b.address(version), PORT) as stranger:
        stranger.sendall(b"plain")
        assert is_reset(stranger)
    where = f"{hosts.b.ipv4}:{PORT}" if version == 4 else f"[{hosts.b.ipv6}]:{PORT}"
    assert hosts.b.told(direction="inbound", destination=where, reason="plaintext", decision="refuse")


def test_plaintext_of_a_strict_command_to_a_stranger_is_refused(hosts: Stage) -> None:
    word = secrets.token_hex(16)
    with hosts.capture() as wire, Echo(hosts.stranger, OTHER) as heard:
        answer = hosts.a.run(jfe_run(hosts.a, "outward", *speaker(hosts.stranger.ipv4, OTHER, word)), check=False)
        assert answer.returncode != 0
        assert heard.heard == b""
    assert not wire.contains(word.encode())
    assert hosts.a.told(workload="outward", reason="plaintext-to-stranger", decision="refuse")


def test_a_permissive_commands_words_reach_the_same_stranger(hosts: Stage) -> None:
    """Without which the test above would prove nothing."""
    word = secrets.token_hex(16)
    with hosts.capture() as wire, Echo(hosts.stranger, OTHER) as heard:
        hosts.a.run(jfe_run(hosts.a, "free", *speaker(hosts.stranger.ipv4, OTHER, word), mode="permissive"))
        assert heard.heard == word.encode()
        assert {peer[0] for peer in heard.seen} == {hosts.a.ipv4}
    assert wire.contains(word.encode())


def test_a_service_of_the_loopback_is_not_reached_from_outside(hosts: Stage) -> None:
    script = f"import socket, time; l = socket.create_server(('127.0.0.1', {INNER})); time.sleep(300)"
    process = hosts.b.spawn(jfe_run(hosts.b, "inner", sys.executable, "-c", script), ready=INNER)
    with pytest.raises(ConnectionRefusedError):
        dialled(hosts.stranger, hosts.b.ipv4, INNER)
    process.stop()


def test_a_closed_port_is_refused_while_others_are_covered(hosts: Stage, server: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        dialled(hosts.stranger, hosts.b.ipv4, OTHER)


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_not_enrolled_is_untouched_byte_for_byte(hosts: Stage, server: str, version: Version) -> None:
    """Both ways on a host with a strict command: the peer sees the very port, and the link carries the very packets."""
    shapes = []
    enrolled = hosts.a.spawn(jfe_run(hosts.a, "beside", "sleep", "300"))
    eventually(lambda: "beside" in {w.id for w in hosts.a.ask(lambda agent: agent.workloads())}, "beside is enrolled")
    for stopped in (False, True):
        if stopped:
            enrolled.stop()
        for caller, callee in ((hosts.a, hosts.stranger), (hosts.stranger, hosts.a)):
            with hosts.capture() as wire, talking(caller, callee, OTHER, version=version) as talk:
                assert talk.seen == talk.client.getsockname()[:2]
                talk.client.sendall(b"request")
                assert received(talk.server, 7) == b"request"
                talk.server.sendall(b"response")
                assert received(talk.client, 8) == b"response"
            assert sorted(wire.streams(OTHER).values()) == [b"request", b"response"]
            hops = "ip.ttl" if version == 4 else "ipv6.hlim"
            fields = (hops, "tcp.option_kind", "tcp.window_size_scalefactor")
            shapes.append(set(wire.tshark(f"tcp.port=={OTHER} && tcp.flags.syn==1", *fields)))
    assert shapes[:2] == shapes[2:], "with and without an enrolled command beside it, the packets are the same"


def test_what_the_host_forwards_to_others_on_an_enrolled_port_is_untouched(hosts: Stage, server: str) -> None:
    word = secrets.token_hex(16).encode()
    with (
        passage(hosts) as target,
        hosts.capture() as wire,
        listening(hosts.stranger, PORT) as listener,
        dialled(hosts.a, target, PORT) as one,
    ):
        taken, seen = listener.accept()
        with taken:
            assert seen == one.getsockname()
            one.sendall(word)
            assert received(taken, len(word)) == word
    assert wire.contains(word)
    assert not wire.tls(PORT)


@pytest.mark.parametrize("activated", [False, True], ids=["own listener", "a listener made elsewhere"])
def test_a_cgroup_is_covered_with_its_listeners(hosts: Stage, activated: bool) -> None:
    """The second as systemd does it for a socket unit: the listener carries another cgroup than the service."""
    name = "activated" if activated else "service"
    with cgroup(hosts.b, name) as made:
        command = (
            [sys.executable, "-c", ACTIVATED, str(INNER), str(made.procs), ACTIVATED_SERVER]
            if activated
            else within(made, sys.executable, "-c", SERVER, str(INNER))
        )
        process = hosts.b.spawn(command, ready=INNER, name=name)
        eventually(lambda: process.pid in made.processes(), "the service is in its cgroup")
        with dialled(hosts.stranger, hosts.b.ipv4, INNER) as before:
            assert received(before, 1), "without cover it answers strangers"
        line = ("enroll", "--socket", str(hosts.b.socket_path), "--mode", "strict")
        hosts.b.run(jfe(*line, "--cgroup", str(made.path), "--name", name))
        with dialled(hosts.stranger, hosts.b.ipv4, INNER) as stranger:
            stranger.sendall(b"plain")
            assert is_reset(stranger)
        hosts.a.know(hosts.b, identity=identity(hosts.b, name), port=INNER)
        answer = hosts.a.run(jfe_run(hosts.a, f"calls-{name}", *client(hosts.b.ipv4, INNER)))
        assert answer.stdout.decode().split() == [hosts.a.ipv4]
        assert hosts.b.told(direction="inbound", reason="mutual", peer=identity(hosts.a, f"calls-{name}"))
        hosts.b.run(jfe("unenroll", name, "--socket", str(hosts.b.socket_path)))
        with dialled(hosts.stranger, hosts.b.ipv4, INNER) as after:
            assert received(after, 1), "released, it answers strangers again"
        process.stop()


def test_a_cgroup_that_is_made_anew_is_covered_again(hosts: Stage) -> None:
    """As the cgroup of a unit that restarts."""
    with cgroup(hosts.b, "again") as first:
        hosts.b.run(
            jfe("enroll", "--socket", str(hosts.b.socket_path), "--mode", "strict", "--cgroup", str(first.path))
        )

        def state() -> str:
            return hosts.b.ask(lambda agent: agent.workload("again")).state

        assert state() == "covered"
        first.remove()
        eventually(lambda: state() == "absent", "the agent sees that the cgroup is gone")
        with cgroup(hosts.b, "again") as second:
            eventually(lambda: state() == "covered", "the agent sees that the cgroup is back")
            hosts.b.spawn(within(second, sys.executable, "-c", SERVER, str(INNER)), ready=INNER)
            with dialled(hosts.stranger, hosts.b.ipv4, INNER) as stranger:
                stranger.sendall(b"plain")
                assert is_reset(stranger)
            hosts.b.unenrol("again")


def test_a_unit_is_covered_or_named_as_the_one_that_is_not_there(hosts: Stage) -> None:
    """Where systemd runs (systemd(1): it makes this folder), with a unit in the host's namespace; else the error, and
    test_unit.py has a systemd of its own."""
    unit = f"{hosts.b.name}.service"
    enrol = jfe("enroll", "--socket", str(hosts.b.socket_path), "--mode", "strict", "--unit", unit, "--name", "unit")
    if not Path("/run/systemd/system").is_dir():
        ended = hosts.b.run(enrol, check=False)
        assert ended.returncode == 1
        assert unit.encode() in ended.stderr or b"no systemd" in ended.stderr
        assert b"Traceback" not in ended.stderr
        return
    started = ["systemd-run", "--unit", unit, "-p", f"NetworkNamespacePath={hosts.b.path}"]
    hosts.b.run([*started, "--", sys.executable, "-c", SERVER, str(INNER)])
    eventually(lambda: hosts.b.listening(INNER), "the unit listens")
    try:
        hosts.b.run(enrol)
        with dialled(hosts.stranger, hosts.b.ipv4, INNER) as stranger:
            stranger.sendall(b"plain")
            assert is_reset(stranger)
        hosts.b.unenrol("unit")
    finally:
        hosts.b.run(["systemctl", "stop", unit], check=False)
