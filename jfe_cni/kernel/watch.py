"""Being told when a namespace's rules, policy rules, routes or devices change.

Notifications say that something changed, not that it matters: whoever is told checks. They cannot be missed unseen, for
a full buffer is a change, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncGenerator

from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

NFNLGRP_NFTABLES = 7
"""linux/netfilter/nfnetlink_compat.h"""

RTNLGRPS = (1, 5, 7, 8, 9, 11, 19)
"""linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE."""

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
"""netlink(7)"""

BUFFER = 65536


async def changes(namespace: Namespace) -> AsyncGenerator[None, None]:
    """One None for each burst of changes; ends when it is closed. The first is for what changed while it was set up.

    Holds no reference to the namespace but its own sockets."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    told.set()
    opened = await run_inside(namespace, _open)
    try:
        for netlink in opened:
            loop.add_reader(netlink.fileno(), _drain, netlink, told)
        while True:
            await told.wait()
            told.clear()
            yield None
    finally:
        for netlink in opened:
            loop.remove_reader(netlink.fileno())
            netlink.close()


def _open() -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for protocol, groups in ((NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)), (NETLINK_ROUTE, RTNLGRPS)):
            netlink = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
            )
            opened.append(netlink)
            netlink.bind((0, 0))
            for group in groups:
                netlink.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except OSError:
        for netlink in opened:
            netlink.close()
        raise
    return opened


def _drain(netlink: socket.socket, told: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                netlink.recv(BUFFER)
            except OSError as error:
                # Messages were lost (netlink(7)): that is a change like any other.
                if error.errno != errno.ENOBUFS:
                    raise
            told.set()
