"""The named counters of an nftables table, asked of the kernel itself: they are read often, and `nft` is a process."""

from __future__ import annotations

import errno
from struct import pack, unpack_from

from jfe_cni.kernel.netlink import NETLINK_NETFILTER, asking, attribute, attributes, text

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


def counters(table: str) -> list[tuple[str, int, int]]:
    """(name, packets, bytes) of the counters of `inet TABLE` in the calling thread's namespace; none without the table.

    Raises KernelError."""
    body = (
        pack("=BBH", NFPROTO_INET, 0, 0)
        + attribute(NFTA_OBJ_TABLE, text(table))
        + attribute(NFTA_OBJ_TYPE, pack("!I", NFT_OBJECT_COUNTER))
    )
    with asking(NETLINK_NETFILTER, "counters can't be read") as netlink:
        try:
            return [_counter(found) for found in netlink.dump(NFT_MSG_GETOBJ, body)]
        except OSError as error:
            if error.errno == errno.ENOENT:
                return []
            raise


def _counter(message: bytes) -> tuple[str, int, int]:
    found = attributes(message[NFGENMSG:])
    data = attributes(found[NFTA_OBJ_DATA])
    name = found[NFTA_OBJ_NAME].rstrip(b"\0").decode()
    (packets,), (size,) = (unpack_from("!Q", data[each]) for each in (NFTA_COUNTER_PACKETS, NFTA_COUNTER_BYTES))
    return name, packets, size
