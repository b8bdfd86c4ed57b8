"""Sockets to listen on: for addresses of both kinds, and what to do where one can't be had."""

from __future__ import annotations

import errno
import socket


def udp_socket(address: str) -> tuple[socket.socket, str]:
    """Not bound yet, and the address to bind it to. `address`: of either kind; `::`, all of both, or of IPv4 alone
    where the kernel has no IPv6. Raises OSError."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if ":" not in address:
        return socket.socket(socket.AF_INET, kind), address
    try:
        made = socket.socket(socket.AF_INET6, kind)
    except OSError as error:
        if address != "::" or error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.socket(socket.AF_INET, kind), "0.0.0.0"
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made, address


def remedy(code: int | None, command: str) -> str:
    """Of the error of socket(2) or bind(2). `command`: shows who has a port."""
    match code:
        case errno.EAFNOSUPPORT:
            return "name an IPv4 address, or have IPv6"
        case errno.EADDRINUSE:
            return f"see who has it ({command})"
        case errno.EADDRNOTAVAIL:
            return "name an address of this host (ip address)"
        case errno.EACCES:
            return "name a port from 1024 on, or give CAP_NET_BIND_SERVICE"
        case _:
            return "name another address"
