"""The last leg, from the upgrader to the application, never takes a four-tuple that the wire has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.stage import Host, Stage
from tests.stage.fixtures import told_of_failure

PORT = 7101
HELD = 200
SHORT = 450
# So few that a clash of what the kernel draws would be certain; half of them, the even ones, are enough for both ends
# of all on this host.
PORTS = "40000 43999"


@pytest.fixture(scope="module", params=[1, 4], ids="of {} workers".format)
def pair(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Both hosts covered, strict. Workers know nothing of the ports that the others have taken."""
    with Stage() as made:
        with told_of_failure(made):
            made.cover("--workers", str(request.param))
        yield made


@contextmanager
def _answering(host: Host) -> Iterator[list[int]]:
    """A server that echoes one byte, for each connection until it ends; the ports that it sees are collected."""
    seen: list[int] = []
    with host.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.ipv4, PORT))
        listener.listen(1024)

        def serve(taken: socket.socket) -> None:
            with taken:
                while byte := taken.recv(1):
                    taken.sendall(byte)

        def accept() -> None:
            while True:
                try:
                    taken, (_, port) = listener.accept()
                except OSError:
                    return
                seen.append(port)
                threading.Thread(target=serve, args=(taken,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield seen
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(30)


def _called(stack: ExitStack, pair: Stage) -> socket.socket:
    client = stack.enter_context(pair.a.socket())
    client.settimeout(30)
    client.connect((pair.b.ipv4, PORT))
    return client


def _answers(client: socket.socket) -> bool:
    client.sendall(b"x")
    return client.recv(1) == b"x"


def test_no_connection_of_many_meets_another_on_its_last_leg(pair: Stage) -> None:
    for host in (pair.a, pair.b):
        host.run(["sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={PORTS}"])
    with _answering(pair.b), ExitStack() as held:
        clients = [_called(held, pair) for _ in range(HELD)]
        assert all(map(_answers, clients))
        for _ in range(SHORT // 3):
            with ExitStack() as short:
                assert all(_answers(_called(short, pair)) for _ in range(3))
        assert all(map(_answers, clients))


def test_the_application_sees_ports_that_no_client_is_given(pair: Stage) -> None:
    for host in (pair.a, pair.b):
        host.run(["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=32768 60999"])
    with _answering(pair.b) as seen, ExitStack() as held:
        clients = [_called(held, pair) for _ in range(HELD)]
        assert all(map(_answers, clients))
        assert {client.getsockname()[1] % 2 for client in clients} == {0}
        assert {port % 2 for port in seen} == {1}
