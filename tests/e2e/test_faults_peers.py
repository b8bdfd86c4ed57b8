"""Peers that are not what the directory says: an error each time, never plaintext, by the side that can know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.e2e.talk import forwards, routed
from tests.e2e.witness import PORT, Witness, call, understood
from tests.stage import Host, Place, Stage, eventually
from tests.stage.place import Version

WORDS = b"words-for-the-right-peer-alone"
REFUSED = ("ConnectionResetError", "BrokenPipeError", b"")
# An address of the stranger's that it hands on to b.
DETOUR = "198.18.7.40"


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """Both hosts covered; what each knows of the other is said by each test."""
    with Stage() as stage:
        stage.start_agents()
        stage.a.enrol("strict")
        stage.b.enrol("strict")
        stage.introduce(stage.a, to=stage.b)
        yield stage


def refused_by(host: Host, reason: str, direction: str) -> bool:
    return {c.decision for c in host.told(direction=direction, reason=reason)} == {"refuse"}


def is_counted(host: Host, reason: str, direction: str) -> bool:
    labels = f'decision="refuse",direction="{direction}",reason="{reason}"'
    return f"jfe_connections_total{{{labels}," in host.ask(lambda agent: agent.metrics())


@pytest.mark.parametrize("version", [4, 6])
def test_a_covered_peer_that_answers_plaintext_is_an_error(scene: Stage, version: Version) -> None:
    scene.a.know(scene.stranger, identity="spiffe://jfe.test/somebody")
    with Witness(scene.stranger) as impostor, scene.capture() as wire:
        for _ in range(3):
            answer = call(scene.a, scene.stranger.address(version), PORT, WORDS)
            assert answer in REFUSED
        # It was dialled, and heard a hello.
        assert impostor.connections
        assert impostor.amount
        assert not impostor.heard(WORDS)
    assert not wire.contains(WORDS)
    assert refused_by(scene.a, "peer-not-tls", "outbound")


def test_a_valid_certificate_for_another_identity_is_refused(scene: Stage) -> None:
    scene.a.know(scene.b, identity="spiffe://jfe.test/somebody-else")
    with Witness(scene.b) as server, scene.capture() as wire:
        assert call(scene.a, scene.b.ipv4, PORT, WORDS) in REFUSED
        assert not server.heard(WORDS)
        assert refused_by(scene.a, "peer-identity", "outbound")

        scene.introduce(scene.b, to=scene.a)
        assert understood(call(scene.a, scene.b.ipv4, PORT, WORDS), WORDS)
    assert not wire.contains(WORDS)


@contextlib.contextmanager
def detour(stage: Stage, *, hides_the_caller: bool) -> Iterator[None]:
    """The stranger hands what comes to DETOUR on to b, in its own name or in the caller's."""
    stranger = stage.stranger
    rules = f"""
    table ip detour {{
        chain to {{ type nat hook prerouting priority -100; ip daddr {DETOUR} dnat to {stage.b.ipv4}; }}
        chain from {{ type nat hook postrouting priority 100;
            ct status dnat {"masquerade" if hides_the_caller else "accept"}; }}
    }}"""
    with contextlib.ExitStack() as ending:
        ending.enter_context(forwards(stranger))
        stranger.run(["ip", "address", "add", f"{DETOUR}/24", "dev", "eth0"])
        ending.callback(stranger.run, ["ip", "address", "delete", f"{DETOUR}/24", "dev", "eth0"])
        if not hides_the_caller:
            # b's answers must come back by the stranger, or its translation is not undone.
            ending.enter_context(routed(stage.b, f"{stage.a.ipv4}/32 via {stranger.ipv4}"))
        stranger.run(["nft", "-f", "-"], input=rules.encode())
        ending.callback(stranger.run, ["nft", "delete", "table", "ip", "detour"])
        yield


def at_the_detour(stage: Stage) -> Place:
    return Place(stage.stranger.namespace, stage.stranger.folder, DETOUR, "fd00:7::40")


def test_a_valid_certificate_for_another_address_is_refused(scene: Stage) -> None:
    """Who dials knows where it wanted to go: b's certificate does not name the address of the detour."""
    scene.a.know(at_the_detour(scene), identity=None)
    with Witness(scene.b) as server, detour(scene, hides_the_caller=False), scene.capture() as wire:
        assert call(scene.a, DETOUR, PORT, WORDS) in REFUSED
        assert not server.heard(WORDS)
        assert refused_by(scene.a, "peer-address", "outbound")
    assert not wire.contains(WORDS)


def test_a_certificate_that_does_not_name_where_it_comes_from_is_refused_by_who_is_called(scene: Stage) -> None:
    """To the caller all is well, for it was told that b is at the detour: who is called sees another's address."""
    scene.a.know(at_the_detour(scene), identity=scene.b.identity)
    with Witness(scene.b) as server, detour(scene, hides_the_caller=True), scene.capture() as wire:
        assert call(scene.a, DETOUR, PORT, WORDS) in REFUSED
        assert not server.heard(WORDS)
        assert refused_by(scene.b, "peer-address", "inbound")
        # By then the caller's handshake was done, and counted: the refusal is counted too.
        assert refused_by(scene.a, "handshake-failed", "outbound")
        eventually(lambda: is_counted(scene.a, "handshake-failed", "outbound"), "the caller's metrics tell of it")
    assert not wire.contains(WORDS)


def test_a_peer_of_another_authority_is_refused_by_both() -> None:
    with Stage() as stage:
        stage.a.start_agent()
        stage.b.start_agent("--authority-dir", str(stage.folder / "another"))
        for host, other in ((stage.a, stage.b), (stage.b, stage.a)):
            host.enrol("strict")
            host.know(other, identity=other.identity)
        with Witness(stage.a) as one, Witness(stage.b) as another, stage.capture() as wire:
            for caller, server in ((stage.a, another), (stage.b, one)):
                assert call(caller, server.place.ipv4, PORT, WORDS) in REFUSED
                assert not server.heard(WORDS)
        assert not wire.contains(WORDS)
        assert refused_by(stage.a, "peer-untrusted", "outbound")
        assert refused_by(stage.b, "peer-untrusted", "outbound")
