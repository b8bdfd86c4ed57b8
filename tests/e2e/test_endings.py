"""How connections begin and end: an end is the end that it was, and every byte before it has arrived."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import secrets
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.talk import Talk, dialled, digest_of, goes_both_ways, is_reset, listening, received, talking, until_end
from tests.stage import Place, Stage, eventually
from tests.stage.place import Version

PORT = 7201
GIGABYTE = 1 << 30
MANY = 2000
# socket(7), SO_LINGER: on, and no second to wait, makes close() a reset.
AT_ONCE = struct.pack("ii", 1, 0)


@pytest.fixture(params=["covered, IPv4", "covered, IPv6", "from a stranger"])
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    """A connection to b under cover, or one that a permissive b passes through. A byte has gone either way."""
    if request.param == "from a stranger":
        stage: Stage = request.getfixturevalue("permissive")
        caller: Place = stage.stranger
    else:
        stage = request.getfixturevalue("pair")
        caller = stage.a
    version: Version = 6 if request.param == "covered, IPv6" else 4
    with talking(caller, stage.b, PORT, version=version, first=b"!") as made:
        made.server.sendall(b"?")
        assert received(made.client, 1) == b"?"
        yield made


@pytest.fixture(params=["client", "server"])
def ends(request: pytest.FixtureRequest, talk: Talk) -> tuple[socket.socket, socket.socket]:
    """Who ends, and the other."""
    return (talk.client, talk.server) if request.param == "client" else (talk.server, talk.client)


def test_a_half_close_arrives_and_the_other_half_goes_on(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    last, answer = secrets.token_bytes(70_000), secrets.token_bytes(3_000_000)
    for sender, receiver, said in ((one, other, last), (other, one, answer)):
        saying = threading.Thread(target=_say_all, args=(sender, said))
        saying.start()
        assert until_end(receiver) == said
        saying.join()


def _say_all(sender: socket.socket, said: bytes) -> None:
    sender.sendall(said)
    sender.shutdown(socket.SHUT_WR)


def test_a_half_closed_connection_stays_open_while_nothing_is_said(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.shutdown(socket.SHUT_WR)
    assert until_end(other) == b""
    one.settimeout(1)
    with pytest.raises(TimeoutError):
        one.recv(1)
    one.settimeout(30)
    other.sendall(b"after a while")
    assert received(one, 13) == b"after a while"


def test_a_reset_arrives_as_a_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    one.close()
    assert is_reset(other)


def test_a_close_arrives_as_an_end_and_no_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.sendall(b"farewell")
    one.close()
    assert until_end(other) == b"farewell"


@pytest.mark.parametrize("version", [4, 6])
def test_who_goes_on_sending_to_one_that_closed_is_told(pair: Stage, version: Version) -> None:
    with talking(pair.a, pair.b, PORT, version=version) as talk:
        assert goes_both_ways(talk)
        talk.server.close()

        def told() -> bool:
            try:
                talk.client.sendall(b"anybody?")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        eventually(told, "the client learns that nobody listens any more")


@pytest.mark.parametrize("version", [4, 6])
def test_a_banner_arrives_though_the_client_says_nothing(pair: Stage, version: Version) -> None:
    with (
        listening(pair.b, PORT, version=version) as listener,
        dialled(pair.a, pair.b.address(version), PORT) as client,
    ):
        server, _ = listener.accept()
        with server:
            server.sendall(b"220 at your service")
            assert received(client, 19) == b"220 at your service"


def test_a_banner_reaches_a_stranger_who_says_nothing(permissive: Stage) -> None:
    with listening(permissive.b, PORT) as listener, dialled(permissive.stranger, permissive.b.ipv4, PORT) as client:
        server, _ = listener.accept()
        with server:
            server.sendall(b"220 at your service")
            assert received(client, 19) == b"220 at your service"


@pytest.mark.parametrize("caller", ["enrolled", "a stranger"])
def test_both_may_speak_first_at_once(request: pytest.FixtureRequest, caller: str) -> None:
    """Over and over: which word is there first is for the scheduler to choose."""
    stage: Stage = request.getfixturevalue("pair" if caller == "enrolled" else "permissive")
    place = stage.a if caller == "enrolled" else stage.stranger
    with listening(stage.b, PORT) as listener:
        for _ in range(50):
            with dialled(place, stage.b.ipv4, PORT) as client:
                speaking = threading.Thread(target=client.sendall, args=(b"from the client",))
                speaking.start()
                server, _ = listener.accept()
                with server:
                    server.settimeout(30)
                    server.sendall(b"from the server")
                    assert received(client, 15) == b"from the server"
                    assert received(server, 15) == b"from the client"
                speaking.join()


@pytest.mark.parametrize("end", ["a", "b"])
def test_sockets_on_the_wire_ask_after_a_silent_peer(pair: Stage, end: str) -> None:
    """The application's keepalive is answered by its own host: the wire's is the upgrader's, after 60 s."""
    host = pair.a if end == "a" else pair.b
    which = f"( dst {pair.b.ipv4} dport = :{PORT} )" if end == "a" else f"( src {pair.b.ipv4} sport = :{PORT} )"

    def wire() -> list[str]:
        """Of the upgrader, and between the hosts: on b the application's socket has the same addresses."""
        said = host.run(["ss", "-Hntoe", "state", "established", which]).stdout.decode()
        return [line for line in said.splitlines() if "/upgrader" in line and pair.a.ipv4 in line]

    with talking(pair.a, pair.b, PORT) as talk:
        assert goes_both_ways(talk)
        # Until what was sent is acknowledged, its timer is another one.
        found = eventually(
            lambda: [line for line in wire() if "timer:(keepalive" in line],
            "a socket of the upgrader has a keepalive timer",
            otherwise=lambda: f"{wire()}",
        )
        assert max(map(_seconds, found)) <= 60


def _seconds(line: str) -> float:
    """ss(8) writes `timer:(keepalive,1min,0)`, `(keepalive,59sec,0)`, `(keepalive,960ms,0)`."""
    match = re.search(r"keepalive,(?:(\d+)min)?(?:([\d.]+)(sec|ms))?,", line)
    assert match, line
    minutes, rest, unit = match.groups()
    return float(minutes or 0) * 60 + float(rest or 0) / (1000 if unit == "ms" else 1)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_gigabyte_arrives_as_it_was_sent(pair: Stage, direction: str) -> None:
    # No two blocks are the same: each begins with its number.
    block = bytearray(random.Random(7).randbytes(1 << 20))
    with talking(pair.a, pair.b, PORT) as talk:
        one, other = (talk.client, talk.server) if direction == "up" else (talk.server, talk.client)
        sent = hashlib.sha256()

        def send() -> None:
            for number in range(GIGABYTE // len(block)):
                block[:8] = number.to_bytes(8, "big")
                sent.update(block)
                one.sendall(block)
            one.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        count, arrived = digest_of(other)
        sending.join()
    assert count == GIGABYTE
    assert arrived == sent.hexdigest()


def test_two_thousand_connections_at_once_are_all_answered(pair: Stage) -> None:
    """All are open before the first is spoken on; then each is, both ways, with a word of its own."""
    with contextlib.ExitStack() as ending:
        listener = ending.enter_context(listening(pair.b, PORT))
        clients = [ending.enter_context(pair.a.socket()) for _ in range(MANY)]
        taken: list[socket.socket] = []

        def accept() -> None:
            for _ in range(MANY):
                server, _ = listener.accept()
                server.settimeout(30)
                taken.append(ending.enter_context(server))

        accepting = threading.Thread(target=accept)
        accepting.start()
        for client in clients:
            client.settimeout(30)
            client.connect((pair.b.ipv4, PORT))
        accepting.join()
        assert len(taken) == MANY
        for number, client in enumerate(clients):
            client.sendall(number.to_bytes(8, "big"))
        for server in taken:
            server.sendall(received(server, 8)[::-1])
        for number, client in enumerate(clients):
            assert received(client, 8) == number.to_bytes(8, "big")[::-1]
        found = pair.a.told(destination=f"{pair.b.ipv4}:{PORT}", ended=False)
        assert len(found) == MANY
        assert {connection.reason for connection in found} == {"mutual"}
