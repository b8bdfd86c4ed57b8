"""A small unmodified pair of programs for the demonstration's numbers: `serve` answers, `client` measures.

The server does what the first byte of a connection says: `e` sends everything back, `s` takes all and answers one byte
at its end. The client prints one JSON object: seconds to connect and get the first byte back, seconds for a round trip
of 64 bytes, bytes per second of one stream.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time

ECHO = b"e"
SINK = b"s"
CONNECTIONS = 60
ROUND_TRIPS = 1_500
ROUND_TRIP_BYTES = 64
STREAMS = 3
STREAM_BYTES = 192 << 20
CHUNK = 256 << 10
PATIENCE_SECONDS = 20.0


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port), backlog=64) as listener:
        while True:
            taken, _ = listener.accept()
            threading.Thread(target=_answer, args=(taken,), daemon=True).start()


def _answer(taken: socket.socket) -> None:
    buffer = bytearray(CHUNK)
    with taken:
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if taken.recv(1) == SINK:
                while taken.recv_into(buffer):
                    pass
                taken.sendall(b".")
            else:
                while size := taken.recv_into(buffer):
                    taken.sendall(memoryview(buffer)[:size])
        except ConnectionError:
            # The client has left: there is nobody to answer.
            return


def client(address: str, port: int) -> dict[str, float]:
    return {
        "connect_seconds": statistics.median(_connect(address, port) for _ in range(CONNECTIONS)),
        "round_trip_seconds": _round_trip(address, port),
        "bytes_per_second": statistics.median(_stream(address, port) for _ in range(STREAMS)),
    }


def _connected(address: str, port: int, what: bytes) -> socket.socket:
    made = socket.create_connection((address, port), timeout=PATIENCE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(what)
    return made


def _connect(address: str, port: int) -> float:
    """Until the far end has answered: under cover connect() itself returns before the far end is known."""
    start = time.perf_counter()
    with _connected(address, port, ECHO + b"x") as made:
        made.recv(1)
        return time.perf_counter() - start


def _round_trip(address: str, port: int) -> float:
    """Median of many on one connection."""
    message = b"r" * ROUND_TRIP_BYTES
    taken: list[float] = []
    with _connected(address, port, ECHO) as made:
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter()
            made.sendall(message)
            missing = ROUND_TRIP_BYTES
            while missing:
                received = len(made.recv(missing))
                if not received:
                    raise ConnectionError("the far end has closed in the middle of a round trip")
                missing -= received
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _stream(address: str, port: int) -> float:
    chunk = memoryview(bytes(CHUNK))
    with _connected(address, port, SINK) as made:
        start = time.perf_counter()
        for _ in range(STREAM_BYTES // CHUNK):
            made.sendall(chunk)
        made.shutdown(socket.SHUT_WR)
        if made.recv(1) != b".":
            raise ConnectionError("the far end has not taken the whole stream")
        return STREAM_BYTES / (time.perf_counter() - start)


def main() -> None:
    match sys.argv[1:]:
        case ["serve", address, port]:
            serve(address, int(port))
        case ["client", address, port]:
            print(json.dumps(client(address, int(port))))
        case _:
            sys.exit("usage: measure serve|client ADDRESS PORT")


if __name__ == "__main__":
    main()
