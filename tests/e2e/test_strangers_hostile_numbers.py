"""Strangers who hold connections open and say little: they end in time, are bounded, and keep nobody else out."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.hello import TlsTalk, client_hello, context
from tests.e2e.talk import Echo, dialled, is_turned_away, received, routed
from tests.stage import Place, Stage, eventually
from tests.stage.fixtures import told_of_failure

PORT = 7401
# Of upgrader/decide/src/limits.rs.
PER_SOURCE = 256
TOO_MANY = 300
SOURCES = 1000
CROWD = "198.18.8.0/21"


@pytest.fixture(scope="module")
def strict() -> Iterator[Stage]:
    """b is strict, terminates strangers' TLS, and has an echo in clear."""
    with Stage() as made:
        with told_of_failure(made):
            made.cover(strangers_tls=True)
        yield made


@pytest.fixture(scope="module")
def application(strict: Stage) -> Iterator[Echo]:
    with Echo(strict.b, PORT) as made:
        yield made


@pytest.fixture(scope="module")
def trust(strict: Stage) -> ssl.SSLContext:
    return context(strict.b.ask(lambda agent: agent.authority()).trust_bundle)


def is_served_with_tls(stage: Stage, caller: Place, trust: ssl.SSLContext) -> bool:
    with dialled(caller, stage.b.ipv4, PORT) as connection:
        talk = TlsTalk(connection, trust, stage.b.ipv4)
        talk.shake_hands()
        return talk.ask(b"served") == b"served"


def is_served_under_cover(stage: Stage) -> bool:
    with dialled(stage.a, stage.b.ipv4, PORT) as connection:
        connection.sendall(b"covered")
        return received(connection, 7) == b"covered"


def refused(stage: Stage, reason: str) -> int:
    """By b, of connections that came."""
    found = re.search(
        rf'^jfe_connections_total{{decision="refuse",direction="inbound",reason="{reason}",[^}}]*}} ([\d.e+]+)$',
        stage.b.ask(lambda agent: agent.metrics()),
        re.MULTILINE,
    )
    return int(float(found.group(1))) if found else 0


def ended(connection: socket.socket) -> bool:
    """Without waiting for it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        # Reset, or (ENOTCONN) told so before.
        return True


def test_one_source_holds_no_more_than_its_share(strict: Stage, application: Echo, trust: ssl.SSLContext) -> None:
    """Those beyond it are reset at once and counted; enrolled peers and other strangers notice nothing."""
    begun = client_hello()[:40]
    with contextlib.ExitStack() as ending:
        held = []
        for _ in range(TOO_MANY):
            connection = ending.enter_context(strict.stranger.socket())
            connection.settimeout(30)
            # The reset may come before connect() has returned.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.connect((strict.b.ipv4, PORT))
                connection.sendall(begun)
            held.append(connection)
        eventually(
            lambda: sum(map(ended, held)) >= TOO_MANY - PER_SOURCE,
            "those beyond the share are reset",
            otherwise=lambda: f"{sum(map(ended, held))} are",
        )
        assert sum(map(ended, held)) == TOO_MANY - PER_SOURCE
        assert is_served_under_cover(strict)
        with routed(strict.b, f"{CROWD} via {strict.stranger.ipv4}"), routed(strict.stranger, f"local {CROWD} dev lo"):
            other = strict.stranger.socket()
            other.settimeout(30)
            other.bind(("198.18.8.1", 0))
            with other:
                other.connect((strict.b.ipv4, PORT))
                talk = TlsTalk(other, trust, strict.b.ipv4)
                talk.shake_hands()
                assert talk.ask(b"another") == b"another"
        assert is_turned_away(strict.stranger, strict.b.ipv4, PORT)
        eventually(
            lambda: refused(strict, "source-limit") == TOO_MANY - PER_SOURCE + 1,
            "the metric tells how many",
            otherwise=lambda: f"{refused(strict, 'source-limit')}",
        )
    eventually(lambda: _served(strict, trust), "who has let go of them is served again")


def _served(stage: Stage, trust: ssl.SSLContext) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return is_served_with_tls(stage, stage.stranger, trust)
    return False


def test_half_hellos_from_a_thousand_sources_keep_nobody_out(
    strict: Stage, application: Echo, trust: ssl.SSLContext
) -> None:
    """All end after ten seconds; so do those who say nothing at all. Not one has reached the application."""
    before = len(application.seen)
    begun = client_hello()
    with (
        routed(strict.b, f"{CROWD} via {strict.stranger.ipv4}"),
        routed(strict.stranger, f"local {CROWD} dev lo"),
        contextlib.ExitStack() as ending,
    ):
        held = []
        for number in range(SOURCES):
            connection = ending.enter_context(strict.stranger.socket())
            connection.settimeout(30)
            connection.bind((f"198.18.{8 + number // 250}.{1 + number % 250}", 0))
            connection.connect((strict.b.ipv4, PORT))
            # From nothing at all to all but the last byte.
            connection.sendall(begun[: number % len(begun)])
            held.append(connection)
        assert is_served_under_cover(strict)
        assert is_served_with_tls(strict, strict.stranger, trust)
        # The upgrader asks once, from b's own address, whether the application speaks TLS.
        reached = Counter(peer[0] for peer in application.seen[before:] if peer[0] != strict.b.ipv4)
        assert reached == {strict.a.ipv4: 1, strict.stranger.ipv4: 1}
        eventually(
            lambda: all(map(ended, held)),
            "all are ended",
            otherwise=lambda: f"{sum(map(ended, held))} of {SOURCES} are",
        )
        assert is_served_with_tls(strict, strict.stranger, trust)
    silent = sum(number % len(begun) == 0 for number in range(SOURCES))
    expected = {"handshake-timeout": SOURCES - silent, "silent": silent}
    # The log comes after them.
    eventually(
        lambda: _told_of_crowd(strict) == expected, "each is told", otherwise=lambda: f"{_told_of_crowd(strict)}"
    )


def _told_of_crowd(stage: Stage) -> Counter[str | None]:
    refused = [connection for connection in stage.b.connections() if connection.decision == "refuse"]
    return Counter(each.reason for each in refused if re.match(r"198\.18\.(8|9|10|11)\.", each.source))
