"""Bad days of the upgrader: no descriptors left, strangers who say half a hello, garbage on its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import select
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from jfe_cni.agent import binaries
from tests.e2e.hello import client_hello
from tests.e2e.pod import enrol_pod, pod
from tests.e2e.talk import received, routed
from tests.e2e.witness import PORT, Witness, call, understood
from tests.stage import Host, Stage, eventually

# RFC 2544's second half: as many addresses of the stranger as are wanted.
CROWD = "198.19.0.0/16"
SOURCES = 1000


@contextlib.contextmanager
def crowd(stage: Stage) -> Iterator[None]:
    """The stranger has every address of CROWD, and b knows the way there."""
    with (
        routed(stage.stranger, f"local {CROWD} dev lo"),
        routed(stage.b, f"{CROWD} via {stage.stranger.ipv4}"),
        many_descriptors(),
    ):
        yield


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def half_hellos(stage: Stage, sources: Sequence[str]) -> list[socket.socket]:
    """As many callings, all at once, each of which falls silent in the middle of its hello."""
    hello = client_hello()
    callers = stage.stranger.inside(lambda: [socket.socket() for _ in sources])
    for caller, source in zip(callers, sources, strict=True):
        caller.bind((source, 0))
        caller.setblocking(False)
        caller.connect_ex((stage.b.ipv4, PORT))
    connected = select.poll()
    unsaid = {caller.fileno(): caller for caller in callers}
    for number in unsaid:
        connected.register(number, select.POLLOUT)
    while unsaid:
        able = connected.poll(30_000)
        assert able, "they are heard"
        for number, _ in able:
            connected.unregister(number)
            with contextlib.suppress(OSError):
                unsaid.pop(number).send(hello[: len(hello) // 2])
    return callers


def is_ended(caller: socket.socket) -> bool:
    """By FIN, by RST, or never begun."""
    try:
        return caller.recv(100, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("mode", ["strict", "permissive"])
def test_half_hellos_from_a_thousand_sources_keep_nobody_out(mode: str) -> None:
    """Meanwhile a covered peer is served, and in permissive a stranger too; then each of the thousand is ended."""
    with Stage() as stage:
        stage.cover(mode_b="strict" if mode == "strict" else "permissive")
        with crowd(stage), Witness(stage.b) as server, contextlib.ExitStack() as ending:
            silent = half_hellos(stage, [f"198.19.{number >> 8}.{number & 255}" for number in range(SOURCES)])
            for caller in silent:
                ending.callback(caller.close)
            assert understood(call(stage.a, stage.b.ipv4, PORT, b"meanwhile"), b"meanwhile")
            if mode == "permissive":
                answer = call(stage.stranger, stage.b.ipv4, PORT, b"a stranger meanwhile")
                assert understood(answer, b"a stranger meanwhile")
            eventually(lambda: all(map(is_ended, silent)), "those who fell silent are ended")
            assert understood(call(stage.a, stage.b.ipv4, PORT, b"after"), b"after")
            # In permissive the application is dialled at once, for it may be one that speaks first. It hears nothing.
            words = b"meanwhileafter" + (b"a stranger meanwhile" if mode == "permissive" else b"")
            assert server.amount == len(words)
            assert mode == "permissive" or server.connections == 2


def test_one_source_has_its_share_and_no_more(pair: Stage) -> None:
    with crowd(pair), Witness(pair.b), contextlib.ExitStack() as ending:
        silent = half_hellos(pair, ["198.19.255.1"] * 400)
        for caller in silent:
            ending.callback(caller.close)
        # Of upgrader/decide: so many of one source may be undecided. Some may have come to their end meanwhile.
        eventually(lambda: sum(map(is_ended, silent)) >= 400 - 256, "more than its share is refused")
        assert understood(call(pair.a, pair.b.ipv4, PORT, b"meanwhile"), b"meanwhile")
        eventually(lambda: all(map(is_ended, silent)), "those who fell silent are ended")


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    """An upgrader that may open 200 descriptors a process."""
    script = tmp_path / "jfe-upgrader"
    script.write_text(f'#!/bin/sh\nulimit -n 200 && exec {binaries.find()} "$@"\n')
    script.chmod(0o755)
    return script


def test_out_of_descriptors_and_back(stage: Stage, poor: Path) -> None:
    stage.a.start_agent()
    stage.b.start_agent("--upgrader", str(poor))
    for host in stage.hosts:
        host.enrol("strict")
    stage.introduce(stage.a, to=stage.b)
    stage.introduce(stage.b, to=stage.a)
    processes = stage.b.upgrader()
    with Witness(stage.b) as server, stage.capture() as wire, contextlib.ExitStack() as ending:
        held = []
        for _ in range(200):
            caller = stage.a.socket()
            ending.callback(caller.close)
            caller.settimeout(0.05)
            with contextlib.suppress(OSError):
                caller.connect((stage.b.ipv4, PORT))
                caller.sendall(b"held-for-a-while")
            held.append(caller)
        eventually(lambda: server.connections >= 50, "as many as may are served")
        assert server.connections < 200
        # What is kept back is enough for a workload that comes now, and its coming ends nobody's connection.
        with pod(stage, stage.b) as made:
            enrol_pod(stage.b, made)
            assert stage.b.upgrader() == processes
            stage.b.unenrol("pod")
        # A stranger at the door of an upgrader that can't open it.
        call(stage.stranger, stage.b.ipv4, PORT, b"a-word-of-a-stranger", seconds=1)
        for caller in held:
            caller.close()
        eventually(
            lambda: understood(call(stage.a, stage.b.ipv4, PORT, b"after-the-flood", seconds=5), b"after-the-flood"),
            "b answers again",
        )
        assert not server.heard(b"a-word-of-a-stranger")
    assert not wire.contains(b"held-for-a-while")
    assert not wire.contains(b"after-the-flood")
    assert stage.b.upgrader() == processes


NO_WORD = b'{"seq":1,"word":"conquer"}'
GARBAGE = {
    "nothing": b"",
    "half a length": b"\x00\x00",
    "a frame longer than any": b"\xff\xff\xff\xff" + b"x" * 1000,
    "a frame that never ends": b"\x00\x10\x00\x00" + b"{",
    "no JSON": b"\x00\x00\x00\x05hello",
    "JSON of another kind": b"\x00\x00\x00\x04[[]]",
    "a word that is none": b"\x00\x00\x00\x1a" + NO_WORD,
    "noise": secrets.token_bytes(100_000),
}


def send_garbage(host: Host, garbage: bytes, descriptors: list[int]) -> None:
    """Until the broker hangs up."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        control.connect(str(host.folder / "upgrader.sock"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if garbage:
                sent = socket.send_fds(control, [garbage], descriptors)
                control.sendall(garbage[sent:])
            control.shutdown(socket.SHUT_WR)
            while control.recv(4096):
                pass


def test_garbage_on_the_control_socket_ends_that_connection_and_nothing_else(pair: Stage) -> None:
    host = pair.b
    processes = host.upgrader()
    descriptors = Path(f"/proc/{processes[0]}/fd")
    before = len(list(descriptors.iterdir()))
    with Witness(host), pair.a.socket() as open_before, Path(os.devnull).open("rb") as file:
        open_before.settimeout(30)
        open_before.connect((host.ipv4, PORT))
        open_before.sendall(b"before")
        assert open_before.recv(100)
        for garbage in GARBAGE.values():
            send_garbage(host, garbage, [file.fileno()] * 50)
        open_before.sendall(b"through it all")
        assert open_before.recv(100)
        assert understood(call(pair.a, host.ipv4, PORT, b"meanwhile"), b"meanwhile")
        # Whoever connects takes the agent's place, and the agent takes it back.
        eventually(lambda: host.ask(lambda agent: agent.status()).upgrader_connected, "the agent has its upgrader back")
        assert understood(call(pair.a, host.ipv4, PORT, b"after"), b"after")
    assert host.upgrader() == processes
    eventually(lambda: len(list(descriptors.iterdir())) <= before, "descriptors that came with garbage are closed")


def test_a_word_that_is_none_is_answered_and_the_next_is_heard(pair: Stage) -> None:
    host = pair.b
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        control.connect(str(host.folder / "upgrader.sock"))
        for _ in range(2):
            control.sendall(GARBAGE["a word that is none"])
            length = int.from_bytes(received(control, 4), "big")
            answer = json.loads(received(control, length))
            assert (answer["seq"], answer["answer"], answer["kind"]) == (1, "failed", "bad_request")
            assert "conquer" in answer["message"]
    eventually(lambda: host.ask(lambda agent: agent.status()).upgrader_connected, "the agent has its upgrader back")
