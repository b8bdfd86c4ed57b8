"""Transparent listeners to try *rules* against, in the place of the upgrader: it knows no TLS and decides nothing.

Its wire side carries every byte inverted, so that a byte that leaves as it was is seen in a capture. Started inside the
network namespace under test; it moves into `--cgroup` before it opens a socket, prints one line of JSON with its two
ports, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import threading
from pathlib import Path

IP_TRANSPARENT = 19  # linux/in.h
IPV6_TRANSPARENT = 75  # linux/in6.h
IPV6_FREEBIND = 78  # linux/in6.h
SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST is the same number
INVERTED = bytes(255 - byte for byte in range(256))


def transparent(family: socket.AddressFamily) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    return opened


def listeners(port: int, ipv6: bool) -> tuple[list[socket.socket], int]:
    first = transparent(socket.AF_INET)
    first.bind(("127.0.0.1", port))
    first.listen(512)
    port = first.getsockname()[1]
    if not ipv6:
        return [first], port
    second = transparent(socket.AF_INET6)
    second.bind(("::1", port))
    second.listen(512)
    return [first, second], port


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """What NAT rewrote (getsockopt of conntrack), or else the socket's own address (tproxy)."""
    level = socket.IPPROTO_IP if connection.family == socket.AF_INET else socket.IPPROTO_IPV6
    try:
        raw = connection.getsockopt(level, SO_ORIGINAL_DST, 28)
    except OSError:
        address, port, *_ = connection.getsockname()
        return address, port
    port = struct.unpack_from("!H", raw, 2)[0]
    address = raw[4:8] if connection.family == socket.AF_INET else raw[8:24]
    return socket.inet_ntop(connection.family, address), port


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data.translate(INVERTED))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def relay(accepted: socket.socket, onward: socket.socket) -> None:
    pair = [threading.Thread(target=copy, args=ends, daemon=True) for ends in ((accepted, onward), (onward, accepted))]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    accepted.close()
    onward.close()


def outbound(accepted: socket.socket) -> None:
    onward = socket.socket(accepted.family, socket.SOCK_STREAM)
    onward.settimeout(5)
    wanted = original_destination(accepted)
    try:
        if wanted == accepted.getsockname()[:2] and wanted[0] in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError
        onward.connect(wanted)
    except OSError:
        reset(accepted)
        return
    onward.settimeout(None)
    relay(accepted, onward)


def inbound(accepted: socket.socket, mark: int) -> None:
    onward = transparent(accepted.family)
    onward.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    onward.settimeout(5)
    try:
        onward.bind((accepted.getpeername()[0], 0))
        onward.connect(accepted.getsockname()[:2])
    except OSError:
        reset(accepted)
        return
    onward.settimeout(None)
    relay(accepted, onward)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def serve(listener: socket.socket, kind: str, mark: int) -> None:
    while True:
        accepted, _ = listener.accept()
        if kind == "outbound":
            work = threading.Thread(target=outbound, args=(accepted,), daemon=True)
        else:
            work = threading.Thread(target=inbound, args=(accepted, mark), daemon=True)
        work.start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cgroup", type=Path, required=True)
    parser.add_argument("--mark", type=lambda text: int(text, 0), required=True)
    parser.add_argument("--outbound-port", type=int, default=0)
    parser.add_argument("--inbound-port", type=int, default=0)
    parser.add_argument("--no-ipv6", action="store_true")
    options = parser.parse_args()
    (options.cgroup / "cgroup.procs").write_text(str(os.getpid()))
    ports = {}
    for kind, wanted in (("outbound", options.outbound_port), ("inbound", options.inbound_port)):
        opened, ports[kind] = listeners(wanted, not options.no_ipv6)
        for listener in opened:
            threading.Thread(target=serve, args=(listener, kind, options.mark), daemon=True).start()
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
