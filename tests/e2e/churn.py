"""Traffic that goes on whatever happens: calls that should be understood, calls that must not, and a long transfer."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from tests.e2e.confined import Confined
from tests.e2e.witness import PORT, Witness, call
from tests.stage import DEADLINE, Capture, eventually

# What each says. The capture holds a stranger's own words, and nobody else's.
COVERED = b"words-between-the-covered"
OUTWARD = b"words-of-a-strict-one-to-a-stranger"
INWARD = b"words-of-a-stranger-to-a-strict-one"


# An application that answers what it hears with the same, and keeps it in the file `words`.
APPLICATION = """
listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
kept = open(words, "wb", buffering=0)
def answer(taken):
    try:
        while heard := taken.recv(65536):
            kept.write(heard); taken.sendall(heard)
    except OSError:
        pass
    taken.close()
print("ready", flush=True)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""
CALLER = """
print("ready", flush=True)
while True:
    speak(stream()); time.sleep(0.01)
"""


class Churn:
    """`with Churn(host) as churn:` a and b talk, a transfers without end, both call the stranger, and the stranger
    calls b, over and over; in the end it is looked at who has heard what and what was on the link.

    What b runs is confined; a's and the stranger's programs are this process's."""

    def __init__(self, host: Confined) -> None:
        self.stage = stage = host.stage
        self._host = host
        self._kept = stage.b.folder / "heard"
        self._stranger = Witness(stage.stranger)
        self.understood = 0
        self._wire = stage.capture()
        self._ended = threading.Event()
        a, b, stranger = stage.a, stage.b, stage.stranger
        work: list[Callable[[], None]] = [
            self._transfer,
            lambda: self._ask(b.ipv4),
            lambda: self._ask(b.ipv6),
            lambda: self._forever(lambda: call(a, stranger.ipv4, PORT, OUTWARD, seconds=0.5)),
            lambda: self._forever(lambda: call(stranger, b.ipv4, PORT, INWARD, seconds=0.5, prepare=eager)),
            lambda: self._forever(lambda: call(stranger, b.ipv6, PORT, INWARD, seconds=0.5)),
        ]
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]

    def __enter__(self) -> Churn:
        self._application = self._host.start(
            APPLICATION, there=self.stage.b.ipv4, port=PORT, words=str(self._kept).encode()
        )
        self._wire.start()
        self._caller = self._host.start(CALLER, there=self.stage.stranger.ipv4, port=PORT, words=OUTWARD, patience=0.5)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        self._caller.stop()
        self._wire.stop()
        self._application.stop()
        self._stranger.close()
        if kind is None:
            self._check(self._wire)

    def goes_on(self, what: str) -> None:
        """Waits until a has been understood by b some times more, by calls that began after this one."""
        before = self.understood
        eventually(lambda: self.understood > before + 4, f"a and b talk {what}")

    def rest(self, seconds: float) -> None:
        """The traffic goes on for so long."""
        self._ended.wait(seconds)

    def _check(self, wire: Capture) -> None:
        heard = self._kept.read_bytes()
        assert COVERED in heard
        assert INWARD not in heard
        assert not self._stranger.heard(OUTWARD)
        assert wire.contains(INWARD)
        assert not wire.contains(COVERED)
        assert not wire.contains(OUTWARD)

    def _ask(self, address: str) -> None:
        """Without the patience to wait for what a dead upgrader should have answered."""

        def ask() -> None:
            answer = call(self.stage.a, address, PORT, COVERED, seconds=2)
            self.understood += answer == COVERED

        self._forever(ask)

    def _transfer(self) -> None:
        chunk = COVERED + secrets.token_bytes(20000)

        def stream() -> None:
            with contextlib.suppress(OSError), self.stage.a.socket() as caller:
                caller.settimeout(2)
                caller.connect((self.stage.b.ipv4, PORT))
                while not self._ended.wait(0.005):
                    caller.sendall(chunk)
                    caller.recv(1 << 20)

        self._forever(stream)

    def _forever(self, work: Callable[[], object]) -> None:
        while not self._ended.is_set():
            work()
            self._ended.wait(0.01)


def eager(caller: socket.socket) -> None:
    """What it says goes with the first packet (linux/tcp.h TCP_FASTOPEN_CONNECT and TCP_FASTOPEN_NO_COOKIE)."""
    caller.setsockopt(socket.IPPROTO_TCP, 30, 1)
    caller.setsockopt(socket.IPPROTO_TCP, 34, 1)
