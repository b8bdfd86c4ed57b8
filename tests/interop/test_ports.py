"""The upgrader's sockets have the addresses and ports of applications, and must not be in their way."""

import sys

import pytest

from tests.interop.web_server import curl, url
from tests.stage import Process, Stage

PORT = 8091


def listen(stage: Stage, name: str) -> Process:
    host = stage.a if name == "a" else stage.b
    return host.spawn([sys.executable, "-m", "http.server", "--bind", "::", str(PORT)], ready=PORT)


@pytest.mark.parametrize("version", [4, 6])
def test_a_server_that_is_started_again_gets_its_port(pair: Stage, version: int) -> None:
    for _ in range(3):
        server = listen(pair, "b")
        pair.a.run(curl("--fail", url(pair.b.address(4 if version == 4 else 6), PORT, "/")))
        server.stop()


def test_a_server_gets_the_port_that_its_host_calls_elsewhere(pair: Stage) -> None:
    elsewhere = listen(pair, "b")
    with pair.a.socket() as caller:
        caller.settimeout(30)
        caller.connect((pair.b.ipv4, PORT))
        caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert caller.recv(9) == b"HTTP/1.0 "
        own = listen(pair, "a")
        own.stop()
    elsewhere.stop()
