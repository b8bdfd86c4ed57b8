"""Who is not enrolled and calls a strict host, or is called by one."""

import sys

import pytest

from tests.interop.stranger import SMTP, TLS, TlsServer, certificate_seen, hears, inbound, mail_server, trust_bundle
from tests.interop.web_server import HTTP, WebServer, curl, url
from tests.stage import Stage

# Not enrolled, a server's own port of a stranger.
STRANGERS = 8088


@pytest.fixture(scope="module")
def web(pair: Stage) -> WebServer:
    return WebServer(pair.b)


def test_plaintext_is_refused_and_never_reaches_the_server(pair: Stage, web: WebServer) -> None:
    answer = pair.stranger.run(curl(url(pair.b.ipv4, HTTP, "/page.txt?refused")), check=False)
    assert answer.returncode != 0
    assert answer.stdout == b""
    assert {c.decision for c in inbound(pair, HTTP, pair.stranger, reason="plaintext")} == {"refuse"}
    assert not web.requests("refused")


def test_tls_is_refused_where_the_server_has_none(pair: Stage, web: WebServer) -> None:
    address = url(pair.b.ipv4, HTTP, "/page.txt?stranger-tls", scheme="https")
    answer = pair.stranger.run(curl("--cacert", str(trust_bundle(pair)), address), check=False)
    assert answer.returncode != 0
    assert {c.decision for c in inbound(pair, HTTP, pair.stranger, reason="stranger-tls")} == {"refuse"}
    assert not web.requests("stranger-tls")


def test_a_tls_server_shows_its_own_certificate(pair: Stage) -> None:
    server = TlsServer(pair.b)
    assert certificate_seen(pair.stranger, pair.b.ipv4, TLS) == server.der
    found = inbound(pair, TLS, pair.stranger, reason="application-tls")
    assert {connection.decision for connection in found} == {"pass_through"}


def test_who_says_nothing_hears_nothing(pair: Stage) -> None:
    mail_server(pair.b)
    with pair.capture() as wire:
        assert hears(pair.stranger, pair.b.ipv4, SMTP) == b""
    assert not wire.contains(b"220 ")
    assert {c.decision for c in inbound(pair, SMTP, pair.stranger, reason="silent")} == {"refuse"}


def test_plaintext_to_a_stranger_is_refused_before_a_byte_of_it_leaves(pair: Stage) -> None:
    pair.stranger.spawn([sys.executable, "-m", "http.server", str(STRANGERS)], ready=STRANGERS)
    with pair.capture() as wire:
        answer = pair.a.run(curl(url(pair.stranger.ipv4, STRANGERS, "/outward-bound")), check=False)
    assert answer.returncode != 0
    assert not wire.contains(b"outward-bound")
    refused = pair.a.told(direction="outbound", reason="plaintext-to-stranger")
    assert {connection.decision for connection in refused} == {"refuse"}


def test_tls_of_ones_own_to_a_stranger_passes(pair: Stage) -> None:
    server = TlsServer(pair.stranger)
    assert certificate_seen(pair.a, pair.stranger.ipv4, TLS) == server.der
    passed = pair.a.told(direction="outbound", destination=f"{pair.stranger.ipv4}:{TLS}", reason="application-tls")
    assert {connection.decision for connection in passed} == {"pass_through"}
