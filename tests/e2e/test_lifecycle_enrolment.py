"""A workload comes under cover and is released: what was open, what is not covered yet, and what is left."""

from __future__ import annotations

import re
import secrets
import signal
import sys
from pathlib import Path

import pytest

from jfe_cni.agent.objects import Target
from jfe_cni.kernel.cgroups import MadeCgroup
from tests.e2e.command import SERVER, cgroup, client, identity, served, within
from tests.e2e.talk import Echo, dialled, goes_both_ways, is_reset, listening, received, talking
from tests.stage import Host, Place, Stage, eventually
from tests.stage.footprint import changes, footprint
from tests.stage.place import Version

PORT = 7701


# --- open at enrolment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["the client", "the server"])
@pytest.mark.parametrize("version", [4, 6])
def test_strict_resets_what_was_open(stage: Stage, who: str, version: Version) -> None:
    host = stage.a if who == "the client" else stage.b
    host.start_agent()
    with talking(stage.a, stage.b, PORT, version=version) as talk:
        assert goes_both_ways(talk)
        host.enrol("strict")
        assert is_reset(talk.client)
        assert is_reset(talk.server)


@pytest.mark.parametrize("version", [4, 6])
def test_permissive_leaves_what_was_open_and_lists_it_until_it_ends(stage: Stage, version: Version) -> None:
    """Also across a restart of the agent."""
    stage.a.start_agent(on_exit="keep")

    def bare() -> list[tuple[str, int, str, int]]:
        report = stage.a.ask(lambda agent: agent.workload(stage.a.name))
        return [(each.local_address, each.local_port, each.peer_address, each.peer_port) for each in report.bare]

    word = secrets.token_hex(16).encode()
    with talking(stage.a, stage.b, PORT, version=version) as talk:
        assert goes_both_ways(talk)
        stage.a.enrol("permissive")
        expected = [(*talk.client.getsockname()[:2], stage.b.address(version), PORT)]
        assert bare() == expected
        assert goes_both_ways(talk)
        stage.a.stop_agent(signal.SIGKILL)
        stage.a.start_agent()
        assert bare() == expected
        with stage.capture() as wire:
            talk.client.sendall(word)
            assert received(talk.server, len(word)) == word
        assert wire.contains(word)
    eventually(lambda: bare() == [], "what has ended is listed no more", otherwise=lambda: f"{bare()}")

    def exempted() -> bool:
        return f". {PORT}" in stage.a.run(["nft", "list", "table", "inet", "jfe"]).stdout.decode()

    eventually(lambda: not exempted(), "the rules no longer make an exception of it")


# --- not covered yet -------------------------------------------------------------------------------------------------


def test_towards_a_peer_that_is_not_covered_yet_permissive_goes_bare(stage: Stage) -> None:
    stage.a.start_agent()
    stage.a.enrol("permissive")
    stage.a.know(stage.b, cover="wished")
    word = secrets.token_hex(16).encode()
    with stage.capture() as wire, talking(stage.a, stage.b, PORT) as talk:
        talk.client.sendall(word)
        assert received(talk.server, len(word)) == word
    assert wire.contains(word)
    assert stage.a.told(direction="outbound", reason="not-covered-yet", decision="pass_through")


def test_towards_a_peer_that_is_not_covered_yet_strict_waits_and_then_refuses(stage: Stage) -> None:
    stage.a.start_agent()
    stage.a.enrol("strict")
    stage.a.know(stage.b, cover="wished")
    word = secrets.token_hex(16).encode()
    with (
        stage.capture() as wire,
        Echo(stage.b, PORT) as server,
        dialled(stage.a, stage.b.ipv4, PORT) as waiting,
    ):
        waiting.sendall(word)
        assert is_reset(waiting)
        assert server.seen == []
    assert stage.a.told(direction="outbound", reason="not-covered-yet", decision="refuse")
    assert wire.tshark(f"tcp.port=={PORT}", "tcp.flags") == [], "not even a SYN has left"


def test_strict_goes_on_as_soon_as_the_peer_is_covered(stage: Stage) -> None:
    stage.start_agents()
    stage.a.enrol("strict")
    stage.a.know(stage.b, cover="wished")
    with listening(stage.b, PORT) as listener, stage.capture() as wire, dialled(stage.a, stage.b.ipv4, PORT) as waiting:
        waiting.sendall(b"patience")
        undecided = stage.a.told(direction="outbound", ended=False)
        assert [c.decision for c in undecided] == [None]
        stage.b.enrol("strict")
        stage.introduce(stage.b, to=stage.a)
        server, seen = listener.accept()
        with server:
            server.settimeout(30)
            assert received(server, 8) == b"patience"
            assert seen[0] == stage.a.ipv4
            assert stage.a.told(direction="outbound", reason="mutual", peer=stage.b.identity)
    assert wire.tls(PORT) or not wire.contains(b"patience")


# --- release ---------------------------------------------------------------------------------------------------------


def sockets(place: Place) -> list[str]:
    """But for those that wait out their time after their end."""
    said = place.run(["ss", "-Htan", "exclude", "time-wait"]).stdout.decode()
    return sorted(re.sub(r"\s+", " ", line) for line in said.splitlines())


def everything(host: Host) -> dict[str, str]:
    return footprint(host) | {"sockets": "\n".join(sockets(host)), "files": "\n".join(_files(host.folder))}


def _files(folder: Path) -> list[str]:
    kept_for_ever = ("log", "lock")
    return sorted(str(path) for path in folder.rglob("*") if not path.name.endswith(kept_for_ever))


@pytest.mark.parametrize("agent", ["runs all the while", "was killed meanwhile"])
@pytest.mark.parametrize("shape", ["namespace", "host"])
def test_removal_leaves_the_kernel_as_it_was(stage: Stage, shape: str, agent: str) -> None:
    """Rules, routes, sysctls, sockets, cgroups, processes and files; after traffic, and with a connection open."""
    host = stage.b
    before = everything(host)
    host.start_agent(on_exit="keep")
    with cgroup(host, "service") as made:
        enrolled = _enrolled(stage, shape, made)
        assert _changed(before, host), "there is something to be removed"
        with dialled(stage.stranger, host.ipv4, PORT) as stranger, dialled(stage.stranger, host.ipv4, PORT) as other:
            stranger.sendall(b"plain")
            assert is_reset(stranger)
            if agent == "was killed meanwhile":
                host.stop_agent(signal.SIGKILL)
                host.start_agent(on_exit="keep")
            host.unenrol(enrolled)
            assert is_reset(other)
        assert _changed(before, host) == [], "released, with the agent still there"
        made.kill()
    host.stop_agent(signal.SIGKILL)
    host.start_agent()
    assert host.stop_agent() == 0
    assert changes(before, everything(host)) == []
    assert host.cgroups() == []
    assert host.upgrader() == []


def _changed(before: dict[str, str], host: Host) -> list[str]:
    now = footprint(host)
    return changes({name: before[name] for name in now}, now)


def _enrolled(stage: Stage, shape: str, made: MadeCgroup) -> str:
    stage.b.spawn(within(made, sys.executable, "-c", SERVER, str(PORT)), ready=PORT)
    target = None if shape == "namespace" else Target("cgroup", str(made.path))
    return stage.b.enrol("strict", target=target).id


def test_a_connection_through_the_upgrader_is_reset_at_release(stage: Stage) -> None:
    stage.cover()
    with talking(stage.a, stage.b, PORT) as talk:
        assert goes_both_ways(talk)
        stage.b.unenrol()
        assert is_reset(talk.client)
        assert is_reset(talk.server)
    assert stage.b.told(direction="inbound", reason="workload-removed", decision="refuse")


def test_two_at_once_share_a_host_and_the_release_of_one_leaves_the_other(stage: Stage) -> None:
    stage.start_agents()
    with served(stage.b, "stays", PORT):
        with served(stage.b, "goes", PORT + 1):
            pass
        with dialled(stage.stranger, stage.b.ipv4, PORT) as stranger:
            stranger.sendall(b"plain")
            assert is_reset(stranger)
        stage.a.know(stage.b, identity=identity(stage.b, "stays"), port=PORT)
        stage.a.enrol("strict")
        answer = stage.a.run(client(stage.b.ipv4, PORT))
        assert answer.stdout.decode().split() == [stage.a.ipv4]
