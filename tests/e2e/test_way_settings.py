"""What a workload's settings change of the way that a connection takes, and for whom."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tests.e2e.hello import TlsTalk, context
from tests.e2e.talk import Echo, dialled, is_reset, received, routed, talking
from tests.stage import Stage
from tests.stage.fixtures import told_of_failure

PORT = 7501
OPEN = 7502
AWAITING = 7503
OPEN_OUTWARD = 7504
# TEST-NET-3 (RFC 5737).
APART = "203.0.113.40"
BANNER = b"220 at your service\r\n"


@pytest.fixture(scope="module")
def strict() -> Iterator[Stage]:
    with Stage() as made:
        with told_of_failure(made):
            made.cover(
                strangers_tls=True,
                excluded_inbound_ports=(OPEN,),
                excluded_outbound_ports=(OPEN_OUTWARD,),
                excluded_outbound_networks=(ip_network(f"{APART}/32"),),
            )
        yield made


@pytest.fixture(scope="module")
def awaiting() -> Iterator[Stage]:
    with Stage() as made:
        with told_of_failure(made):
            made.cover(mode_b="permissive", await_hello_ports=(AWAITING,))
        yield made


def trust(stage: Stage) -> ssl.SSLContext:
    return context(stage.b.ask(lambda agent: agent.authority()).trust_bundle)


def test_a_strict_workload_that_was_told_to_terminates_strangers_tls(strict: Stage) -> None:
    with (
        Echo(strict.b, PORT) as application,
        dialled(strict.stranger, strict.b.ipv4, PORT) as connection,
        strict.capture() as wire,
    ):
        talk = TlsTalk(connection, trust(strict), strict.b.ipv4)
        talk.shake_hands()
        assert talk.ask(b"word-of-a-stranger") == b"word-of-a-stranger"
        assert [peer[0] for peer in application.seen[-1:]] == [strict.stranger.ipv4]
    assert not wire.contains(b"word-of-a-stranger")
    assert strict.b.told(direction="inbound", reason="terminated", decision="upgrade")


def test_it_goes_on_refusing_strangers_plaintext(strict: Stage) -> None:
    with Echo(strict.b, PORT) as application, dialled(strict.stranger, strict.b.ipv4, PORT) as connection:
        connection.sendall(b"plain")
        assert is_reset(connection)
    assert application.heard == b""


def test_an_excluded_port_is_bare_for_strangers(strict: Stage) -> None:
    with talking(strict.stranger, strict.b, OPEN) as talk:
        talk.client.sendall(b"plain")
        assert received(talk.server, 5) == b"plain"
        assert talk.seen[0] == strict.stranger.ipv4
    where = f"{strict.b.ipv4}:{OPEN}"
    found = strict.b.told(direction="inbound", destination=where, reason="excluded")
    assert {c.decision for c in found} == {"pass_through"}


def test_a_port_excluded_outward_is_bare(strict: Stage) -> None:
    word = secrets.token_hex(16).encode()
    with strict.capture() as wire, talking(strict.a, strict.stranger, OPEN_OUTWARD) as talk:
        talk.client.sendall(word)
        assert received(talk.server, len(word)) == word
        assert talk.seen[0] == strict.a.ipv4
    assert wire.contains(word)
    where = f"{strict.stranger.ipv4}:{OPEN_OUTWARD}"
    assert strict.a.told(direction="outbound", destination=where, reason="excluded", decision="pass_through")


def test_an_excluded_network_is_bare_and_its_neighbour_is_not(strict: Stage) -> None:
    with (
        routed(strict.stranger, f"local {APART} dev lo"),
        routed(strict.a, f"{APART} via {strict.stranger.ipv4}"),
        Echo(strict.stranger, PORT) as heard,
    ):
        with dialled(strict.a, APART, PORT) as connection:
            connection.sendall(b"bare")
            assert received(connection, 4) == b"bare"
        with dialled(strict.a, strict.stranger.ipv4, PORT) as connection:
            connection.sendall(b"never")
            assert is_reset(connection)
        assert heard.heard == b"bare"
    assert strict.a.told(destination=f"{APART}:{PORT}", reason="excluded", decision="pass_through")


def test_a_port_that_awaits_a_hello_sends_nothing_before_one(awaiting: Stage) -> None:
    """Without that, the stranger hears the banner in clear; with a hello it comes in TLS. The silent end in time."""
    with awaiting.capture() as wire, Echo(awaiting.b, AWAITING, banner=BANNER) as application:
        with dialled(awaiting.stranger, awaiting.b.ipv4, AWAITING) as silent:
            with dialled(awaiting.stranger, awaiting.b.ipv4, AWAITING) as connection:
                talk = TlsTalk(connection, trust(awaiting), awaiting.b.ipv4)
                talk.shake_hands()
                assert talk.read(len(BANNER)) == BANNER
            served = len(application.seen)
            assert is_reset(silent)
            assert len(application.seen) == served
        assert awaiting.b.told(direction="inbound", reason="silent", decision="refuse")
    assert not wire.contains(BANNER)


def test_another_port_of_it_sends_its_banner_at_once(awaiting: Stage) -> None:
    with (
        awaiting.capture() as wire,
        Echo(awaiting.b, PORT, banner=BANNER),
        dialled(awaiting.stranger, awaiting.b.ipv4, PORT) as silent,
    ):
        assert received(silent, len(BANNER)) == BANNER
    assert wire.contains(BANNER)


def test_an_enrolled_client_hears_the_banner_of_a_port_that_awaits_a_hello(awaiting: Stage) -> None:
    with (
        Echo(awaiting.b, AWAITING, banner=BANNER),
        dialled(awaiting.a, awaiting.b.ipv4, AWAITING) as enrolled,
    ):
        assert received(enrolled, len(BANNER)) == BANNER
