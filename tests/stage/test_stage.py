"""The stage itself: what it shows is so, and what is left on it is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.stage import Failed, Stage, eventually

PORT = 8080
SECRET = b"a-word-on-the-wire"
# Sends the word in two segments, so that no packet holds it whole.
TALK = """
import socket, sys
version, address = sys.argv[1:]
with socket.socket(socket.AF_INET6 if version == "6" else socket.AF_INET) as talk:
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    talk.connect((address, 8080))
    talk.sendall(b"a-word-on"); talk.recv(1); talk.sendall(b"-the-wire"); talk.recv(1)
"""
LISTEN = """
import socket
listener = socket.create_server(("", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, _ = listener.accept()
    with client:
        while client.recv(100):
            client.sendall(b".")
"""


@pytest.mark.parametrize("version", [4, 6])
def test_a_capture_reads_words_that_two_packets_share(version: int) -> None:
    with Stage() as stage:
        stage.b.spawn([sys.executable, "-c", LISTEN], ready=PORT)
        with stage.capture() as wire:
            stage.a.run([sys.executable, "-c", TALK, str(version), stage.b.address(4 if version == 4 else 6)])
        assert wire.contains(SECRET)
        assert not wire.contains(b"another word")
        assert not wire.tls(PORT)
        assert SECRET not in wire.path.read_bytes()


def test_two_stages_stand_side_by_side_and_nothing_stays_of_either() -> None:
    with Stage() as one, Stage() as other:
        assert one.name != other.name
        for stage in (one, other):
            stage.b.spawn([sys.executable, "-c", LISTEN], ready=PORT)
        paths = [place.path for stage in (one, other) for place in (stage.a, stage.b, stage.stranger)]
        assert all(path.exists() for path in paths)
    assert not any(path.exists() for path in (*paths, one.folder, other.folder))


def test_a_process_that_slipped_away_is_told_and_ended() -> None:
    stage = Stage()
    stage.b.run(["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 </dev/null &"])
    left = eventually(lambda: list(stage.b.namespace.processes()), "it runs")
    with pytest.raises(AssertionError, match=r"process .* sleep 300"):
        stage.close()
    assert not any(_runs(pid) for pid in left)
    assert not stage.b.path.exists()


def _runs(pid: int) -> bool:
    """A zombie whose parent has yet to reap it has no command line."""
    try:
        return bool(Path("/proc", str(pid), "cmdline").read_bytes())
    except FileNotFoundError:
        return False


def test_a_rule_that_stayed_is_told() -> None:
    stage = Stage()
    stage.a.run(["nft", "add table inet left_over"])
    with pytest.raises(AssertionError, match="left_over"):
        stage.close()


def test_a_program_that_fails_shows_how_to_follow_it() -> None:
    with Stage() as stage:
        with pytest.raises(Failed, match=rf"status 3: nsenter --net={stage.a.path} [\s\S]*what went wrong"):
            stage.a.run(["sh", "-c", "echo what went wrong >&2; exit 3"])
        with pytest.raises(AssertionError, match="no such name"):
            stage.a.spawn(["sh", "-c", "echo no such name; exit 1"], ready=PORT)


def test_a_listener_is_seen_in_its_own_place_only() -> None:
    with Stage() as stage:
        stage.b.spawn([sys.executable, "-c", LISTEN], ready=PORT)
        assert stage.b.listening(PORT)
        assert not stage.a.listening(PORT)
        assert os.getpid() not in stage.b.namespace.processes()
