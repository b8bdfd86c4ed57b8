"""A strict workload with CAP_NET_ADMIN takes its rules away: noticed, mended, its link closed meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.pod import enrol_pod, pod
from tests.e2e.witness import PORT, Witness, call, understood
from tests.stage import Host, Place, Process, Stage, eventually

MARK = "0x400000/0x400000"
TABLE = "29286"
HARM = {
    "the whole ruleset flushed": ["nft", "flush", "ruleset"],
    "the table deleted": ["nft", "delete", "table", "inet", "jfe"],
    "a chain flushed": ["nft", "flush", "chain", "inet", "jfe", "outbound"],
    "the policy rule deleted": ["ip", "rule", "delete", "fwmark", MARK],
    "the policy rule for IPv6 deleted": ["ip", "-6", "rule", "delete", "fwmark", MARK],
    "the routes flushed": ["ip", "route", "flush", "table", TABLE],
    # Without it the application's answers to the upgrader would leave as they are.
    "a sysctl set back": ["sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=0"],
}
# The others let packets out until the link is closed, milliseconds later: THREAT-MODEL.md says so.
HARMLESS_AT_ONCE = [
    "the policy rule deleted",
    "the policy rule for IPv6 deleted",
    "the routes flushed",
    "a sysctl set back",
]


@dataclass
class Scene:
    stage: Stage
    node: Host
    pod: Place
    watched: Process


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Stage() as stage:
        try:
            stage.start_agents()
            with pod(stage, stage.a) as made:
                identity = enrol_pod(stage.a, made)
                stage.b.enrol("strict")
                stage.b.know(made, identity=identity)
                stage.introduce(stage.b, to=stage.a)
                # Tells of the table that closes the link, as it comes and goes.
                watched = stage.a.spawn(["nft", "monitor"], name="monitor")
                yield Scene(stage, stage.a, made, watched)
                stage.a.unenrol("pod")
        except BaseException:
            print(stage.diagnosis())
            raise


def whole(node: Host) -> bool:
    report = node.ask(lambda agent: agent.workload("pod"))
    return report.rules_whole and report.state == "covered"


@pytest.mark.parametrize("harm", HARM)
def test_a_flushed_table_is_mended_and_the_link_closed_meanwhile(scene: Scene, harm: str) -> None:
    stage, node, made = scene.stage, scene.node, scene.pod
    with Witness(stage.b) as peer, Witness(stage.stranger) as stranger, stage.capture() as wire:
        answer = call(made, stage.b.ipv4, PORT, b"a-word-before")
        assert understood(answer, b"a-word-before"), answer
        closed = scene.watched.output().count("add rule netdev jfe_closed_")
        opened = scene.watched.output().count("delete table netdev jfe_closed_")
        made.run(HARM[harm])
        eventually(lambda: scene.watched.output().count("add rule netdev jfe_closed_") > closed, "the link was closed")
        eventually(lambda: whole(node), "the rules are mended")
        eventually(
            lambda: scene.watched.output().count("delete table netdev jfe_closed_") > opened, "the link was opened"
        )
        for there in (stage.stranger.ipv4, stage.stranger.ipv6):
            call(made, there, PORT, b"a-word-for-a-stranger", seconds=5)
        for there in (stage.b.ipv4, stage.b.ipv6):
            answer = call(made, there, PORT, b"a-word-after")
            assert understood(answer, b"a-word-after"), answer
    assert not stranger.heard(b"a-word-for-a-stranger")
    assert peer.heard(b"a-word-after")
    assert not wire.contains(b"a-word-")


# Does harm while it says its words, with first packets and over connections, as fast as it can; connections that it has
# it keeps, and says on them other words when it is told to.
RUNAWAY = """
import os, socket, subprocess, sys, threading, time
there, port, told, *harm = sys.argv[1:]
kept, later, end = [], threading.Event(), time.monotonic() + 2
def speak(options):
    while time.monotonic() < end:
        s = socket.socket()
        s.settimeout(0.3)
        try:
            for option in options:
                s.setsockopt(socket.IPPROTO_TCP, option, 1)
            s.connect((there, int(port))); s.sendall(b"a-word-in-between"); s.recv(100)
            kept.append(s)
        except OSError:
            s.close()
# linux/tcp.h: TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE
threads = [threading.Thread(target=speak, args=(options,)) for options in ((), (30, 34)) for _ in range(2)]
for each in threads:
    each.start()
time.sleep(0.3)
subprocess.run(harm, check=True)
for each in threads:
    each.join()
print("said", flush=True)
while not os.path.exists(told):
    time.sleep(0.02)
for s in kept:
    try:
        s.sendall(b"a-word-later")
    except OSError:
        pass
# Of hundreds none is answered: to wait for each would take minutes. Meanwhile the kernel says it again and again.
time.sleep(1)
print("ended", flush=True)
"""


@pytest.mark.parametrize("harm", HARM)
def test_a_workload_that_talks_all_the_while_is_not_heard(scene: Scene, harm: str) -> None:
    """And what it could open before its link was closed is no way out for the time after."""
    stage, node, made = scene.stage, scene.node, scene.pod
    told = made.folder / f"told-{harm.replace(' ', '-')}"
    with Witness(stage.stranger) as stranger, stage.capture() as wire:
        command = [sys.executable, "-c", RUNAWAY, stage.stranger.ipv4, str(PORT), str(told), *HARM[harm]]
        runaway = made.spawn(command, name="runaway")
        runaway.says("said")
        eventually(lambda: whole(node), "the rules are mended")
        told.touch()
        runaway.says("ended", seconds=60)
    assert not wire.contains(b"a-word-later")
    if harm in HARMLESS_AT_ONCE:
        assert not stranger.heard(b"a-word-in-between")
        assert not wire.contains(b"a-word-in-between")
