"""Who is not enrolled and calls a permissive host: with TLS, with TLS to a TLS server, in clear, or silently."""

import ssl
import sys
from pathlib import Path

import pytest

from tests.interop.stranger import (
    SMTP,
    TLS,
    TlsServer,
    certificate_seen,
    hears,
    inbound,
    mail_server,
    s_client,
    trust_bundle,
)
from tests.interop.web_server import HTTP, WebServer, curl, url
from tests.stage import Stage
from tests.stage.place import Version

ONE_AT_A_TIME = 8092


@pytest.fixture(scope="module")
def web(permissive: Stage) -> WebServer:
    return WebServer(permissive.b)


@pytest.fixture(scope="module")
def bundle(permissive: Stage) -> Path:
    return trust_bundle(permissive)


@pytest.fixture(scope="module")
def tls_server(permissive: Stage) -> TlsServer:
    return TlsServer(permissive.b)


@pytest.mark.parametrize("version", [4, 6])
def test_curl_gets_tls_from_a_plaintext_server(
    permissive: Stage, web: WebServer, bundle: Path, version: Version
) -> None:
    word = f"curl-by-tls-{version}"
    address = url(permissive.b.address(version), HTTP, f"/page.txt?{word}", scheme="https")
    with permissive.capture() as wire:
        answer = permissive.stranger.run(curl("--fail", "--cacert", str(bundle), address))
    assert answer.stdout == web.page
    assert [request.client for request in web.logged(word)] == [permissive.stranger.address(version)]
    assert wire.tls(HTTP)
    assert not wire.contains(web.page.strip())
    assert not wire.contains(word.encode())
    if version == 4:
        assert {c.decision for c in inbound(permissive, HTTP, permissive.stranger, reason="terminated")} == {"upgrade"}


def test_openssl_gets_tls_from_a_plaintext_server_and_trusts_its_address(
    permissive: Stage, web: WebServer, bundle: Path
) -> None:
    client = s_client(permissive.b.ipv4, HTTP, "-CAfile", str(bundle), "-verify_ip", permissive.b.ipv4)
    asked = b"GET /page.txt?openssl HTTP/1.0\r\n\r\n"
    answer = permissive.stranger.run(client, input=asked)
    assert b"Verify return code: 0 (ok)" in answer.stdout
    assert web.page in answer.stdout
    assert [request.client for request in web.logged("openssl")] == [permissive.stranger.ipv4]


def test_openssl_does_not_trust_it_for_another_address(permissive: Stage, web: WebServer, bundle: Path) -> None:
    client = s_client(permissive.b.ipv4, HTTP, "-CAfile", str(bundle), "-verify_ip", permissive.a.ipv4)
    answer = permissive.stranger.run(client, input=b"GET / HTTP/1.0\r\n\r\n", check=False)
    assert answer.returncode != 0
    assert b"IP address mismatch" in answer.stdout + answer.stderr


def test_a_tls_server_shows_its_own_certificate(permissive: Stage, tls_server: TlsServer) -> None:
    seen = certificate_seen(permissive.stranger, permissive.b.ipv4, TLS)
    assert seen == tls_server.der
    found = inbound(permissive, TLS, permissive.stranger, reason="application-tls")
    assert {connection.decision for connection in found} == {"pass_through"}


def test_curl_talks_to_a_tls_server_through_the_cover(permissive: Stage, tls_server: TlsServer) -> None:
    address = url(permissive.b.ipv4, TLS, "/", scheme="https")
    answer = permissive.stranger.run(curl("--fail", "--cacert", str(tls_server.certificate), address))
    assert answer.stdout == b"TLSv1.3"


def test_a_tls_server_is_no_obstacle_to_an_enrolled_caller(permissive: Stage, tls_server: TlsServer) -> None:
    """TLS of the program's own travels inside ours, as any bytes do."""
    assert certificate_seen(permissive.a, permissive.b.ipv4, TLS) == tls_server.der
    assert inbound(permissive, TLS, permissive.a, reason="mutual")


def test_plaintext_passes(permissive: Stage, web: WebServer) -> None:
    address = url(permissive.b.ipv4, HTTP, "/page.txt?in-clear")
    with permissive.capture() as wire:
        answer = permissive.stranger.run(curl("--fail", address))
    assert answer.stdout == web.page
    assert wire.contains(web.page.strip())
    assert [request.client for request in web.logged("in-clear")] == [permissive.stranger.ipv4]
    found = inbound(permissive, HTTP, permissive.stranger, reason="plaintext")
    assert {connection.decision for connection in found} == {"pass_through"}


def test_who_says_nothing_hears_the_banner(permissive: Stage) -> None:
    mail_server(permissive.b)
    assert hears(permissive.stranger, permissive.b.ipv4, SMTP).startswith(b"220 ")
    found = inbound(permissive, SMTP, permissive.stranger, reason="server-first")
    assert {connection.decision for connection in found} == {"pass_through"}


def test_who_is_enrolled_has_mutual_tls_all_the_while(permissive: Stage, web: WebServer) -> None:
    answer = permissive.a.run(curl("--fail", url(permissive.b.ipv4, HTTP, "/page.txt?enrolled")))
    assert answer.stdout == web.page
    assert [request.client for request in web.logged("enrolled")] == [permissive.a.ipv4]
    assert inbound(permissive, HTTP, permissive.a, reason="mutual", peer=permissive.a.identity)


def test_a_server_that_serves_one_at_a_time_is_asked_too(permissive: Stage, bundle: Path) -> None:
    """The stranger's hello comes when the server is busy with the connection on which a banner was awaited."""
    command = [sys.executable, str(Path(__file__).parent / "one_at_a_time.py"), str(ONE_AT_A_TIME)]
    server = permissive.b.spawn(command, ready=ONE_AT_A_TIME)
    context = ssl.create_default_context(cafile=str(bundle))
    with permissive.stranger.socket() as connection:
        connection.settimeout(30)
        connection.connect((permissive.b.ipv4, ONE_AT_A_TIME))
        server.says(f"serves {permissive.stranger.ipv4}")
        with context.wrap_socket(connection, server_hostname=permissive.b.ipv4) as talk:
            talk.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert talk.recv(4096).startswith(b"HTTP/1.0 200 OK")
