"""Strangers' hellos, broken, huge, slow and unfinished: what becomes of them, and what they do not change."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.e2e.hello import TlsTalk, client_hello, context, long_hello, malformed
from tests.e2e.talk import Echo, dialled, is_reset, listening, received, talking, until_end
from tests.interop.stranger import TLS, TlsServer, certificate_seen
from tests.stage import Stage
from tests.stage.fixtures import told_of_failure

PLAIN = 7301
BY_HAND = 7302
# Of upgrader/decide: a hello must end within so many bytes.
HELLO_MAX = 64 * 1024


@pytest.fixture(scope="module")
def lenient() -> Iterator[Stage]:
    """b is permissive; of one port it was told that its application speaks TLS."""
    with Stage() as made:
        with told_of_failure(made):
            made.cover(mode_b="permissive", application_tls_ports=(BY_HAND,))
        yield made


@pytest.fixture(scope="module")
def trust(lenient: Stage) -> ssl.SSLContext:
    return context(lenient.b.ask(lambda agent: agent.authority()).trust_bundle)


@pytest.fixture
def application(lenient: Stage) -> Iterator[Echo]:
    """In clear."""
    with Echo(lenient.b, PLAIN) as made:
        yield made


def terminated(stage: Stage, trust: ssl.SSLContext) -> bool:
    """Whether a stranger's TLS to the plaintext application ends at the upgrader, which shows whom it stands for."""
    word = secrets.token_bytes(32)
    with dialled(stage.stranger, stage.b.ipv4, PLAIN) as connection:
        talk = TlsTalk(connection, trust, stage.b.ipv4)
        talk.shake_hands()
        return talk.ask(word) == word


def sent_in_vain(stage: Stage, port: int, said: bytes) -> bool:
    """Whether a stranger that says this, and no more, is not answered."""
    with dialled(stage.stranger, stage.b.ipv4, port) as connection:
        try:
            connection.sendall(said)
            return until_end(connection) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True


def test_malformed_hellos_teach_nothing(lenient: Stage, trust: ssl.SSLContext, application: Echo) -> None:
    """Nothing of what is not known yet, nothing of what is; a TLS server stays one, and another stays none."""
    server = TlsServer(lenient.b)
    for _ in range(2):
        for said in malformed().values():
            assert sent_in_vain(lenient, PLAIN, said)
            # Of a server that speaks TLS, its own alert may be the answer once that is known.
            with dialled(lenient.stranger, lenient.b.ipv4, TLS) as connection, contextlib.suppress(OSError):
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                until_end(connection)
        assert application.heard == b""
        assert terminated(lenient, trust)
        application.heard.clear()
        assert certificate_seen(lenient.stranger, lenient.b.ipv4, TLS) == server.der


@pytest.mark.parametrize("what", malformed())
def test_a_malformed_hello_is_refused_and_reaches_no_application(lenient: Stage, application: Echo, what: str) -> None:
    with dialled(lenient.stranger, lenient.b.ipv4, PLAIN) as connection:
        source = "{}:{}".format(*connection.getsockname())
        connection.sendall(malformed()[what])
        assert is_reset(connection)
    found = lenient.b.told(source=source)
    assert {(c.decision, c.reason) for c in found} == {("refuse", "hello-malformed")}
    assert application.heard == b""


def test_a_hello_one_byte_a_time_is_a_hello(lenient: Stage, trust: ssl.SSLContext, application: Echo) -> None:
    with dialled(lenient.stranger, lenient.b.ipv4, PLAIN) as connection:
        source = "{}:{}".format(*connection.getsockname())
        talk = TlsTalk(connection, trust, lenient.b.ipv4)
        talk.shake_hands(one_byte_a_time=True)
        assert talk.ask(b"a word") == b"a word"
    assert {c.reason for c in lenient.b.told(source=source, ended=True)} == {"terminated"}
    assert application.heard == b"a word"


@pytest.mark.parametrize("length", [RECORD := 16384 + 5, HELLO_MAX - 1, HELLO_MAX])
def test_a_hello_as_long_as_may_be_reaches_a_tls_server_as_it_was(lenient: Stage, length: int) -> None:
    said = long_hello(length)
    assert len(said) == length
    with listening(lenient.b, BY_HAND) as listener, dialled(lenient.stranger, lenient.b.ipv4, BY_HAND) as connection:
        connection.sendall(said)
        server, _ = listener.accept()
        with server:
            server.settimeout(30)
            assert received(server, length) == said
            server.sendall(b"answer")
            assert received(connection, 6) == b"answer"


def test_a_hello_as_long_as_may_be_is_answered_for_an_application_in_clear(lenient: Stage, application: Echo) -> None:
    """A ServerHello, not an alert (RFC 8446, 5.1): content type 22."""
    with dialled(lenient.stranger, lenient.b.ipv4, PLAIN) as connection:
        connection.sendall(long_hello(HELLO_MAX))
        assert received(connection, 1) == b"\x16"
    assert application.heard == b""


def test_a_longer_hello_is_refused_and_reaches_no_application(lenient: Stage) -> None:
    """Not even one of which it is known that it speaks TLS."""
    with Echo(lenient.b, BY_HAND) as heard, dialled(lenient.stranger, lenient.b.ipv4, BY_HAND) as connection:
        source = "{}:{}".format(*connection.getsockname())
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(long_hello(HELLO_MAX + 1))
            assert until_end(connection) == b""
        assert {(c.decision, c.reason) for c in lenient.b.told(source=source)} == {("refuse", "hello-too-large")}
        with dialled(lenient.stranger, lenient.b.ipv4, BY_HAND) as shorter:
            said = long_hello(1000)
            shorter.sendall(said)
            assert received(shorter, len(said)) == said
        assert heard.heard == said


def test_a_hello_that_ends_too_soon_is_plaintext(lenient: Stage, application: Echo) -> None:
    """Whatever it was meant to be: no more of it can come. The application may make of it what it will."""
    said = client_hello()[:60]
    with dialled(lenient.stranger, lenient.b.ipv4, PLAIN) as connection:
        source = "{}:{}".format(*connection.getsockname())
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert until_end(connection) == said
    assert {(c.decision, c.reason) for c in lenient.b.told(source=source)} == {("pass_through", "plaintext")}
    assert application.heard == said


def test_who_claims_to_be_a_peer_and_has_no_certificate_is_refused(lenient: Stage, application: Echo) -> None:
    with dialled(lenient.stranger, lenient.b.ipv4, PLAIN) as connection:
        source = "{}:{}".format(*connection.getsockname())
        talk = TlsTalk(connection, context(alpn="jfe/1"))
        # In TLS 1.3 the client is done before the server has seen that it has none.
        talk.shake_hands()
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            talk.ask(b"let me in")
    assert {(c.decision, c.reason) for c in lenient.b.told(source=source)} == {("refuse", "peer-untrusted")}
    assert application.heard == b""


def test_enrolled_peers_are_served_all_the_while(lenient: Stage) -> None:
    with talking(lenient.a, lenient.b, PLAIN) as talk:
        talk.client.sendall(b"mutual")
        assert received(talk.server, 6) == b"mutual"
