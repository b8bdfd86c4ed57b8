"""curl and nginx: HTTP/1.1 and HTTP/2, one connection and a hundred, a page and a big file."""

import pytest

from tests.interop.overheard import assert_mutual, overheard
from tests.interop.web_server import HTTP, HTTP2, WebServer, curl, sha256, url
from tests.stage import Stage
from tests.stage.place import Version


@pytest.fixture(scope="module")
def web(hosts: Stage) -> WebServer:
    return WebServer(hosts.b)


@pytest.mark.parametrize("version", [4, 6])
def test_a_page_is_fetched_and_the_server_sees_who_asks(hosts: Stage, web: WebServer, version: Version) -> None:
    word = f"word-in-the-path-{version}"
    with overheard(hosts, HTTP, web.page.strip(), word.encode(), b"HTTP/1.1", version=version):
        answer = hosts.a.run(curl("--fail", url(hosts.b.address(version), HTTP, f"/page.txt?{word}")))
    assert answer.stdout == web.page
    assert [request.client for request in web.logged(word)] == [hosts.a.address(version)]


def test_tshark_finds_what_there_is_between_unchanged_addresses(hosts: Stage, web: WebServer) -> None:
    with overheard(hosts, HTTP, web.page.strip()) as wire:
        hosts.a.run(curl("--fail", url(hosts.b.ipv4, HTTP, "/page.txt")))
    ends = [(hosts.b.ipv4, hosts.a.ipv4, str(HTTP))]
    if not hosts.covered:
        assert wire.tshark("http.response", "ip.src", "ip.dst", "tcp.srcport") == ends
        return
    as_tls = (f"tcp.port=={HTTP},tls",)
    assert not wire.tshark("http", "frame.number")
    # RFC 8446, section 4.2.1: 0x0304 in the server's hello is TLS 1.3.
    hello = "tls.handshake.type == 2 and tls.handshake.extensions.supported_version == 0x0304"
    assert wire.tshark(hello, "ip.src", "ip.dst", "tcp.srcport", decode_as=as_tls) == ends


def test_a_page_that_is_not_there_is_the_servers_own_answer(hosts: Stage, web: WebServer) -> None:
    with overheard(hosts, HTTP, b"404 Not Found"):
        answer = hosts.a.run(curl("--include", url(hosts.b.ipv4, HTTP, "/no-such-page")))
    assert answer.stdout.startswith(b"HTTP/1.1 404 Not Found")


def test_one_connection_is_kept_for_the_next_request(hosts: Stage, web: WebServer) -> None:
    address = url(hosts.b.ipv4, HTTP, "/page.txt?kept=[1-5]")
    with overheard(hosts, HTTP, web.page.strip()):
        answer = hosts.a.run(curl("--fail", address))
    assert answer.stdout == web.page * 5
    assert len({request.connection for request in web.logged("kept=", 5)}) == 1


def test_a_hundred_requests_at_once_are_answered(hosts: Stage, web: WebServer) -> None:
    address = url(hosts.b.ipv4, HTTP, "/page.txt?crowd=[1-100]")
    at_once = ("--parallel", "--parallel-immediate", "--parallel-max", "100", "--no-keepalive")
    with overheard(hosts, HTTP, web.page.strip()):
        answer = hosts.a.run(curl("--fail", *at_once, "-H", "Connection: close", address))
    assert answer.stdout == web.page * 100
    requests = web.logged("crowd=", 100)
    assert {request.client for request in requests} == {hosts.a.ipv4}
    assert len({request.connection for request in requests}) == 100


def test_a_big_file_arrives_as_it_is(hosts: Stage, web: WebServer) -> None:
    target = hosts.a.folder / "big.bin"
    hosts.a.run(curl("--fail", "--output", str(target), url(hosts.b.ipv4, HTTP, "/big.bin")))
    assert sha256(target) == sha256(web.big)
    if hosts.covered:
        assert_mutual(hosts, HTTP)


def test_http2_with_prior_knowledge(hosts: Stage, web: WebServer) -> None:
    # RFC 9113, section 3.4: the client's preface.
    with overheard(hosts, HTTP2, web.page.strip(), b"PRI * HTTP/2.0"):
        answer = hosts.a.run(curl("--fail", "--http2-prior-knowledge", url(hosts.b.ipv4, HTTP2, "/page.txt?second")))
    assert answer.stdout == web.page
    assert [(request.client, request.protocol) for request in web.logged("second")] == [(hosts.a.ipv4, "HTTP/2.0")]


def test_a_big_file_by_http2_arrives_as_it_is(hosts: Stage, web: WebServer) -> None:
    target = hosts.a.folder / "big2.bin"
    address = url(hosts.b.ipv4, HTTP2, "/big.bin")
    hosts.a.run(curl("--fail", "--http2-prior-knowledge", "--output", str(target), address))
    assert sha256(target) == sha256(web.big)
    if hosts.covered:
        assert_mutual(hosts, HTTP2)
