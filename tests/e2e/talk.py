"""Connections between places, held by the test itself: both ends are its own sockets."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.stage import DEADLINE, Place, Stage, eventually
from tests.stage.namespace import ip
from tests.stage.place import Version

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ANY: dict[int, str] = {4: "0.0.0.0", 6: "::"}
CHUNK = 1 << 20


@contextlib.contextmanager
def listening(place: Place, port: int, *, version: Version = 4, address: str | None = None) -> Iterator[socket.socket]:
    """A listener on `address` (default: on all), whose `accept` gives up in the end."""
    with place.socket(FAMILY[version]) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address or ANY[version], port))
        listener.listen(4096)
        listener.settimeout(DEADLINE)
        yield listener


def dialled(place: Place, address: str, port: int) -> socket.socket:
    """Connected. What it waits for later must come within the deadline, too."""
    client = place.socket(FAMILY[6 if ":" in address else 4])
    client.settimeout(DEADLINE)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        raise
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


@dataclass(frozen=True)
class Talk:
    """`seen`: the client's address and port as the server has them."""

    client: socket.socket
    server: socket.socket
    seen: tuple[str, int]


@contextlib.contextmanager
def talking(caller: Place, callee: Place, port: int, *, version: Version = 4, first: bytes = b"") -> Iterator[Talk]:
    """One connection, made now. `first`: where the server's side is only connected once the client has spoken."""
    with listening(callee, port, version=version) as listener, dialled(caller, callee.address(version), port) as client:
        client.sendall(first)
        server, seen = listener.accept()
        with server:
            server.settimeout(DEADLINE)
            assert received(server, len(first)) == first
            yield Talk(client, server, seen[:2])


def received(connection: socket.socket, count: int) -> bytes:
    """So many bytes. AssertionError where the stream ends before."""
    got = bytearray()
    while len(got) < count:
        part = connection.recv(min(CHUNK, count - len(got)))
        assert part, f"the stream ended after {len(got)} of {count} bytes"
        got += part
    return bytes(got)


def until_end(connection: socket.socket) -> bytes:
    """All bytes up to FIN. ConnectionResetError where it ends otherwise."""
    got = bytearray()
    while part := connection.recv(CHUNK):
        got += part
    return bytes(got)


def is_reset(connection: socket.socket) -> bool:
    """Waits for the end of the connection; whether it was RST, or by somebody who may end it here (ECONNABORTED)."""
    try:
        until_end(connection)
    except (ConnectionResetError, ConnectionAbortedError):
        return True
    return False


def is_turned_away(place: Place, address: str, port: int) -> bool:
    """Connects, and waits for the end; whether it was RST. It may come before connect() has returned."""
    try:
        with dialled(place, address, port) as connection:
            return is_reset(connection)
    except ConnectionResetError:
        return True


def goes_both_ways(talk: Talk) -> bool:
    """Something that was never said before arrives as it was sent, from either end."""
    for one, other in ((talk.client, talk.server), (talk.server, talk.client)):
        said = secrets.token_bytes(64)
        one.sendall(said)
        if received(other, len(said)) != said:
            return False
    return True


class Echo:
    """A server of this process that sends back what it gets, each connection on a thread; `with Echo(place, port)`.

    `seen` has the peer of each connection, `heard` all bytes, `banner` is what it says first."""

    def __init__(self, place: Place, port: int, *, version: Version = 4, banner: bytes = b"") -> None:
        self._place, self._port, self._version, self._banner = place, port, version, banner
        self._ending = contextlib.ExitStack()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.seen: list[tuple[str, int]] = []
        self.heard = bytearray()

    def __enter__(self) -> Echo:
        self._listener = self._ending.enter_context(listening(self._place, self._port, version=self._version))
        self._listener.settimeout(None)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        self._ending.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, peer = self._listener.accept()
                self.seen.append(peer[:2])
                self._open.add(taken)
                self._start(self._answer, taken)

    def _answer(self, taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            taken.sendall(self._banner)
            while part := taken.recv(1 << 16):
                self.heard += part
                taken.sendall(part)


@dataclass
class Load:
    """Connections that talk to an echo all the while, on a thread each: `held` of them for the whole time, and one
    after the other a new one for each exchange. `with Load(...) as load:` fails where one of them failed."""

    place: Place
    address: str
    port: int
    held: int = 4
    exchanges: int = 0
    fresh: int = 0
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for work in [self._hold] * self.held + [self._renew]:
            thread = threading.Thread(target=self._watched, args=(work,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        if kind is None:
            assert self.failures == []

    def _watched(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except (OSError, AssertionError) as error:
            self.failures.append(f"{work.__name__}: {type(error).__name__}: {error}")  # type: ignore[attr-defined]

    def _hold(self) -> None:
        with dialled(self.place, self.address, self.port) as connection:
            while not self._ended.is_set():
                self._exchange(connection)
                self._ended.wait(0.002)

    def _renew(self) -> None:
        while not self._ended.is_set():
            with dialled(self.place, self.address, self.port) as connection:
                self._exchange(connection)
                self.fresh += 1

    def _exchange(self, connection: socket.socket) -> None:
        said = secrets.token_bytes(200)
        connection.sendall(said)
        assert received(connection, len(said)) == said
        self.exchanges += 1


def digest_of(connection: socket.socket) -> tuple[int, str]:
    """How many bytes come until FIN, and their SHA-256."""
    hashed, count = hashlib.sha256(), 0
    space = bytearray(CHUNK)
    while got := connection.recv_into(space):
        hashed.update(memoryview(space)[:got])
        count += got
    return count, hashed.hexdigest()


@contextlib.contextmanager
def routed(place: Place, *routes: str) -> Iterator[None]:
    """`ip route add ROUTE` for each, for the time of the body: the stage compares routes when it ends."""
    with contextlib.ExitStack() as ending:
        for route in routes:
            version = "-6" if ":" in route else "-4"
            ip("-n", place.name, version, "route", "add", *route.split())
            ending.callback(ip, "-n", place.name, version, "route", "delete", *route.split())
        yield


@contextlib.contextmanager
def forwards(place: Place) -> Iterator[None]:
    """The place forwards what is for others, and tells nobody of a shorter way."""
    wanted = {"ipv4/ip_forward": "1", "ipv4/conf/all/send_redirects": "0", "ipv4/conf/eth0/send_redirects": "0"}

    def put(values: dict[str, str]) -> dict[str, str]:
        before = {}
        for name, value in values.items():
            file = Path("/proc/sys/net", name)
            before[name] = file.read_text().strip()
            file.write_text(value)
        return before

    before = place.inside(lambda: put(wanted))
    try:
        yield
    finally:
        place.inside(lambda: put(before))


@contextlib.contextmanager
def passage(stage: Stage) -> Iterator[str]:
    """An address of the stranger that a reaches by way of b, which forwards."""
    # TEST-NET-3, RFC 5737.
    target = "203.0.113.30"
    with (
        forwards(stage.b),
        routed(stage.b, f"{target} via {stage.stranger.ipv4}"),
        routed(stage.stranger, f"local {target} dev lo"),
        routed(stage.a, f"{target} via {stage.b.ipv4}"),
    ):
        yield target


def goes_on(load: Load, when: str) -> None:
    """Connections that are held talk, and new ones are made and answered."""
    exchanges, fresh = load.exchanges, load.fresh
    eventually(
        lambda: load.failures or (load.exchanges > exchanges + 50 and load.fresh > fresh + 5),
        f"traffic goes on {when}",
        otherwise=lambda: f"{load}",
    )
    assert load.failures == []
