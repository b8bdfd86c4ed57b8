"""An application that keeps all that it hears, and a caller that tells how it went."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.stage import Place

PORT = 8080
ANSWER = b"heard: "
Prepare = Callable[[socket.socket], None]


def _as_made(_: socket.socket) -> None:
    """Nothing is done with the socket before it is used."""


class Witness:
    """Listens on every address of `place`, answers whatever it hears with ANSWER and the same, and keeps it.

    Its threads are this process's, its sockets the namespace's: an application that costs nothing to start."""

    def __init__(self, place: Place, port: int = PORT, *, prepare: Prepare = _as_made) -> None:
        self.place = place
        self.port = port
        self._kept: list[bytearray] = []
        self._open: list[socket.socket] = []
        self._listener = place.socket(socket.AF_INET6)
        self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prepare(self._listener)
        self._listener.bind(("::", port))
        self._listener.listen(1024)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many have reached it."""
        return len(self._kept)

    @property
    def amount(self) -> int:
        """Bytes heard in all."""
        return sum(map(len, list(self._kept)))

    def heard(self, words: bytes) -> bool:
        return any(words in bytes(kept) for kept in list(self._kept))

    def close(self) -> None:
        for each in (self._listener, *self._open):
            # A thread that waits in accept or recv is woken by shutdown, not by close.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            kept = bytearray()
            self._kept.append(kept)
            self._open.append(taken)
            threading.Thread(target=self._listen, args=(taken, kept), daemon=True).start()

    def _listen(self, taken: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError), taken:
            while said := taken.recv(65536):
                kept += said
                taken.sendall(ANSWER + said)


def call(
    place: Place, address: str, port: int, words: bytes, *, prepare: Prepare = _as_made, seconds: float = 20
) -> bytes | str:
    """Says `words` and gives the answer, as far as it has come when it holds them all; or the name of the error."""
    answer = b""
    with place.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as caller:
        caller.settimeout(seconds)
        prepare(caller)
        try:
            caller.connect((address, port))
            caller.sendall(words)
            while words not in answer and (said := caller.recv(65536)):
                answer += said
        except OSError as error:
            return type(error).__name__
    return answer


def understood(answer: bytes | str, words: bytes) -> bool:
    """Whether a `call` with `words` has met a witness."""
    return answer == ANSWER + words
