"""pyroute2's sockets, which carry no types: every use of what they give is checked by the tests on a real kernel.

Each belongs to the network namespace of the thread that opens it, and is used on that thread.
"""

from __future__ import annotations

from typing import Any

import pyroute2

_pyroute2: Any = pyroute2


def open_route() -> Any:
    """An `IPRoute`: links, addresses, routes and policy rules (rtnetlink(7))."""
    return _pyroute2.IPRoute()


def open_diag() -> Any:
    """A `DiagSocket` (sock_diag(7)), bound."""
    diag = _pyroute2.DiagSocket()
    diag.bind()
    return diag
