"""The named counters of an nftables table, asked of the kernel itself: they are read often, and `nft` is a process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from struct import pack, unpack_from

from jfe_cni.errors import KernelError
from jfe_cni.kernel.netlink import NETLINK_NETFILTER, NLM_F_REQUEST, NLMSG_HEADER

NLM_F_DUMP = 0x300
"""linux/netlink.h: NLM_F_ROOT | NLM_F_MATCH."""

NLMSG_ERROR, NLMSG_DONE = 2, 3
"""linux/netlink.h"""

NFT_MSG_GETOBJ = 10 << 8 | 19
"""linux/netfilter/nf_tables.h, below NFNL_SUBSYS_NFTABLES of linux/netfilter/nfnetlink.h."""

NFPROTO_INET = 1
"""linux/netfilter.h"""

NFGENMSG = 4
"""Bytes of struct nfgenmsg, linux/netfilter/nfnetlink.h."""

NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA = 1, 2, 3, 4
NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 2
NFT_OBJECT_COUNTER = 1
"""linux/netfilter/nf_tables.h"""

NLA_TYPE_MASK = 0x3FFF
"""linux/netlink.h: the two bits above are flags."""

BUFFER = 1 << 16
"""A part of a dump is at most 32 KiB (net/netlink/af_netlink.c, netlink_dump)."""


def counters(table: str) -> list[tuple[str, int, int]]:
    """(name, packets, bytes) of the counters of `inet TABLE` in the calling thread's namespace; none without the table.

    Raises KernelError."""
    asked = _attribute(NFTA_OBJ_TABLE, table.encode() + b"\0") + _attribute(
        NFTA_OBJ_TYPE, pack("!I", NFT_OBJECT_COUNTER)
    )
    request = pack("=BBH", NFPROTO_INET, 0, 0) + asked
    header = pack("=IHHII", NLMSG_HEADER + len(request), NFT_MSG_GETOBJ, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as netlink:
        netlink.send(header + request)
        return [_counter(message) for message in _dump(netlink)]


def _dump(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        received = netlink.recv(BUFFER)
        while received:
            length, kind = unpack_from("=IH", received)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                code = -unpack_from("=i", received, NLMSG_HEADER)[0]
                if code == errno.ENOENT:
                    return
                raise KernelError(f"counters cannot be read ({os.strerror(code)})", "run as root, with CAP_NET_ADMIN")
            yield received[NLMSG_HEADER + NFGENMSG : length]
            received = received[_aligned(length) :]


def _counter(message: bytes) -> tuple[str, int, int]:
    attributes = _attributes(message)
    data = _attributes(attributes[NFTA_OBJ_DATA])
    name = attributes[NFTA_OBJ_NAME].rstrip(b"\0").decode()
    (packets,), (size,) = (unpack_from("!Q", data[each]) for each in (NFTA_COUNTER_PACKETS, NFTA_COUNTER_BYTES))
    return name, packets, size


def _attributes(text: bytes) -> dict[int, bytes]:
    found = {}
    while text:
        length, kind = unpack_from("=HH", text)
        found[kind & NLA_TYPE_MASK] = text[4:length]
        text = text[_aligned(length) :]
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return (pack("=HH", 4 + len(value), kind) + value).ljust(_aligned(4 + len(value)), b"\0")


def _aligned(length: int) -> int:
    """NLMSG_ALIGN and NLA_ALIGN, linux/netlink.h."""
    return (length + 3) & ~3
