"""pyroute2's sockets, which carry no types: every use of what they give is checked by the tests on a real kernel.

Each belongs to the network namespace of the thread that opens it, and is used on that thread.
"""

from __future__ import annotations

from typing import Any

import pyroute2

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
"""linux/netlink.h"""

NLM_F_REQUEST, NLM_F_ACK = 1, 4
"""linux/netlink.h"""

NLMSG_HEADER = 16
"""Bytes of struct nlmsghdr, netlink(7)."""

_pyroute2: Any = pyroute2


def open_route() -> Any:
    """An `IPRoute`: links, addresses, routes and policy rules (rtnetlink(7))."""
    return _pyroute2.IPRoute()


def open_diag() -> Any:
    """A `DiagSocket` (sock_diag(7)), bound."""
    diag = _pyroute2.DiagSocket()
    diag.bind()
    return diag
