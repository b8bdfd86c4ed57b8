"""One nftables table asked of the kernel itself: its comment, and a digest of all that it consists of.

`nft list` is a process, reads every table of the namespace, and looks through all cgroups of the host for the paths of
those that rules name. Whoever is in the namespace with CAP_NET_ADMIN writes what is read here: nothing of it is kept
but digests, and no more of it is read than `LIMIT`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import pack, unpack_from

from jfe_cni.kernel.netlink import (
    ATTEMPTS,
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Change,
    Netlink,
    asking,
    attribute,
    attributes,
    each_attribute,
    text,
)

NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES = 0x10, 0x11, 10
"""linux/netfilter/nfnetlink.h"""

NFGENMSG = 4
"""Bytes of struct nfgenmsg, linux/netfilter/nfnetlink.h."""

_NFT = NFNL_SUBSYS_NFTABLES << 8
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN = _NFT | 0, _NFT | 1, _NFT | 2, _NFT | 3, _NFT | 4
NEWRULE, GETRULE, NEWSET, GETSET, NEWSETELEM = _NFT | 6, _NFT | 7, _NFT | 9, _NFT | 10, _NFT | 12
GETSETELEM, GETGEN, NEWOBJ, GETOBJ, GETFLOWTABLE = _NFT | 13, _NFT | 16, _NFT | 18, _NFT | 19, _NFT | 23
"""NFT_MSG_…, linux/netfilter/nf_tables.h"""

NFTA_NAME_OF_TABLE = 1
"""The first attribute of everything in a table, and of the table itself: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …"""

NFTA_TABLE_USE, NFTA_TABLE_USERDATA = 3, 6
NFTA_CHAIN_USE, NFTA_CHAIN_COUNTERS = 6, 8
NFTA_RULE_EXPRESSIONS = 4
NFTA_EXPR_NAME = 1
NFTA_SET_NAME = 2
NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 2, 3
NFTA_OBJ_TYPE, NFTA_OBJ_DATA, NFTA_OBJ_USE = 3, 4, 5
NFTA_FLOWTABLE_USE = 4
NFTA_GEN_ID = 1
NFT_OBJECT_COUNTER = 1
"""linux/netfilter/nf_tables.h"""

NFNL_BATCH_GENID = 1
"""linux/netfilter/nfnetlink.h: the transaction is refused (ERESTART) in any other generation. Linux 4.19."""

UDATA_TABLE_COMMENT = 0
"""libnftnl, udata.h: NFTNL_UDATA_TABLE_COMMENT. User data is a sequence of type (1 byte), length (1 byte), value."""

FAMILIES = {"inet": 1, "netdev": 5}
"""NFPROTO_…, linux/netfilter.h, by their names in `nft`."""

LIMIT = 32 << 20
"""Bytes that are read of one table. A table of ours has some 10 KiB, and 70 bytes more for each bare connection: one
that is beyond this is not ours any more."""

CHANGED = ""
"""The digest of a table that can't be told, for it is too large or changes all the while: equal to none of ours."""

TABLES = "the tables of a namespace can't be read or changed"

UNSEEN = 0
"""The generation of a state that was not seen by this process: the kernel leaves 0 out (nf_tables_commit)."""

DIGEST = 32
"""Bytes of a digest; 16 of that of an element, of which a set may have many."""


Part = tuple[int, bytes]
"""One thing that a table consists of: what it was asked for by (GETCHAIN, …), and the attributes of the answer, without
what changes by itself."""


@dataclass(frozen=True)
class TableState:
    """`generation` changes with each transaction of the namespace (NFTA_GEN_ID): while it is the same, so is all.
    `digest` is in hexadecimal; `inner` is that of what is in the table, without its own name, comment and number."""

    generation: int
    digest: str
    inner: str = CHANGED


def comment(family: str, table: str) -> str | None:
    """The comment of a table of the calling thread's namespace; empty: it has none, None: there is no such table.

    Raises KernelError, HostError, as all here."""
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        found = _table(netlink, FAMILIES[family], table)
    return None if found is None else _comment(attributes(found).get(NFTA_TABLE_USERDATA, b""))


def names(family: str) -> frozenset[str]:
    """The tables of a family."""
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        dumped = netlink.dump(GETTABLE, _nfgenmsg(FAMILIES[family]))
    return frozenset(_name(attributes(each[NFGENMSG:]).get(NFTA_NAME_OF_TABLE, b"")) for each in dumped)


def record(family: str, table: str, comment: str) -> None:
    """A new table with nothing but a comment in it. KernelError where there is one already."""
    value = comment.encode() + b"\0"
    userdata = bytes((UDATA_TABLE_COMMENT, len(value))) + value
    body = attribute(NFTA_NAME_OF_TABLE, text(table)) + attribute(NFTA_TABLE_USERDATA, userdata)
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        _transact(netlink, [Change(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, _nfgenmsg(FAMILIES[family]) + body)])


def delete(family: str, table: str) -> None:
    """Takes a table away; none there is none to take."""
    body = attribute(NFTA_NAME_OF_TABLE, text(table))
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        try:
            _transact(netlink, [Change(DELTABLE, 0, _nfgenmsg(FAMILIES[family]) + body)])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def generation() -> int:
    """The number of the namespace's last transaction, whosever."""
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        return _generation(netlink)


def add(family: str, changes: Sequence[Change], generation: int) -> None:
    """What is to come into tables that are there, in one transaction; bodies of `changes` without struct nfgenmsg.

    KernelError, and nothing is done, where the kernel refuses any of it or `generation` is not the last any more."""
    head = _nfgenmsg(FAMILIES[family])
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        _transact(netlink, [Change(kind, flags, head + body) for kind, flags, body in changes], generation)


def state(family: str, table: str, known: TableState | None = None) -> TableState | None:
    """The table as it is now; None where there is none. `known` is given back where nothing has changed since.

    The digest is over the table's flags and comment, its chains, rules, sets and their elements, objects and
    flowtables, each with its handle: what is taken away and put there again has another. What changes by itself is left
    out: what counters have counted, and how often a thing is used."""
    return _read(family, table, known, None)


def read(family: str, table: str) -> tuple[TableState | None, list[Part]]:
    """As `state`, and with all that the table consists of; of one that can't be told (`CHANGED`), any part of that."""
    parts: list[Part] = []
    return _read(family, table, None, parts), parts


def _read(family: str, table: str, known: TableState | None, parts: list[Part] | None) -> TableState | None:
    number = FAMILIES[family]
    with asking(NETLINK_NETFILTER, TABLES) as netlink:
        for _ in range(ATTEMPTS):
            if parts is not None:
                parts.clear()
            now = _generation(netlink)
            if known is not None and known.generation == now:
                return known
            found = _table(netlink, number, table)
            if found is None:
                return None
            try:
                digest, inner = _Reading(netlink, number, table, parts).digests(found)
            except InterruptedError:
                continue
            except _TooLarge:
                # What is left of the dump is not read: the conversation ends here.
                return TableState(now, CHANGED)
            if _generation(netlink) == now:
                return TableState(now, digest, inner)
    return TableState(now, CHANGED)


class _TooLarge(Exception):
    """No fault: the table can't be one of ours."""


class _Reading:
    """One reading of a table, from its beginning to its end; what is read is added to `parts`, if they are wanted."""

    def __init__(self, netlink: Netlink, family: int, table: str, parts: list[Part] | None) -> None:
        self._netlink = netlink
        self._family = family
        self._table = text(table)
        self._hash = blake2b(digest_size=DIGEST)
        self._left = LIMIT
        self._parts = parts

    def digests(self, table: bytes) -> tuple[str, str]:
        """Of the whole, and of what is in the table."""
        whole = blake2b(digest_size=DIGEST)
        own = _without(NFTA_TABLE_USE)(table)
        whole.update(_framed(GETTABLE, own))
        if self._parts is not None:
            self._parts.append((GETTABLE, own))
        for chain in self._read(GETCHAIN):
            # Of all that is asked for, chains alone come from every table of the family (nf_tables_dump_chains).
            if attributes(chain).get(NFTA_NAME_OF_TABLE) == self._table:
                self._take(GETCHAIN, _without(NFTA_CHAIN_USE, NFTA_CHAIN_COUNTERS)(chain))
        for rule in self._read(GETRULE):
            self._take(GETRULE, _rule(rule))
        sets = []
        for found in self._read(GETSET):
            self._take(GETSET, found)
            sets.append(attributes(found).get(NFTA_SET_NAME, b""))
        for name in sets:
            self._elements(name)
        for found in self._read(GETOBJ):
            self._take(GETOBJ, _object(found))
        for found in self._read(GETFLOWTABLE):
            self._take(GETFLOWTABLE, _without(NFTA_FLOWTABLE_USE)(found))
        whole.update(self._hash.digest())
        return whole.hexdigest(), self._hash.hexdigest()

    def _elements(self, name: bytes) -> None:
        """In no order that the kernel would keep to: a hash table that grows is put in another one."""
        found = []
        for part in self._read(GETSETELEM, attribute(NFTA_SET_ELEM_LIST_SET, name)):
            elements = attributes(part).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
            # The last message of each set has none.
            if self._parts is not None and elements:
                self._parts.append((GETSETELEM, part))
            for _, element in each_attribute(elements):
                found.append(blake2b(element, digest_size=DIGEST // 2).digest())
        found.sort()
        self._hash.update(_framed(GETSETELEM, name))
        for each in found:
            self._hash.update(each)

    def _read(self, kind: int, more: bytes = b"") -> Iterator[bytes]:
        asked = _nfgenmsg(self._family) + attribute(NFTA_NAME_OF_TABLE, self._table) + more
        for found in self._netlink.stream(kind, asked):
            self._left -= len(found)
            if self._left < 0:
                raise _TooLarge
            yield found[NFGENMSG:]

    def _take(self, kind: int, what: bytes) -> None:
        self._hash.update(_framed(kind, what))
        if self._parts is not None:
            self._parts.append((kind, what))


def _framed(kind: int, what: bytes) -> bytes:
    """With its kind and length, so that no two sequences of things are one text."""
    return pack("=HI", kind, len(what)) + what


def _without(*kinds: int) -> Callable[[bytes], bytes]:
    return lambda found: b"".join(attribute(kind, value) for kind, value in each_attribute(found) if kind not in kinds)


def _rule(found: bytes) -> bytes:
    """A rule without what its counters have counted."""
    if b"counter\0" not in found:
        return found
    return b"".join(
        attribute(kind, _expressions(value) if kind == NFTA_RULE_EXPRESSIONS else value)
        for kind, value in each_attribute(found)
    )


def _expressions(found: bytes) -> bytes:
    steady = []
    for kind, value in each_attribute(found):
        name = attributes(value).get(NFTA_EXPR_NAME)
        steady.append(attribute(kind, attribute(NFTA_EXPR_NAME, name) if name == b"counter\0" else value))
    return b"".join(steady)


def _object(found: bytes) -> bytes:
    counter = attributes(found).get(NFTA_OBJ_TYPE) == pack("!I", NFT_OBJECT_COUNTER)
    return _without(NFTA_OBJ_USE, *([NFTA_OBJ_DATA] if counter else []))(found)


def _transact(netlink: Netlink, changes: Sequence[Change], generation: int | None = None) -> None:
    # struct nfgenmsg, whose last field names the subsystem in network byte order
    whole = pack("!BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
    only = b"" if generation is None else attribute(NFNL_BATCH_GENID, pack("!I", generation))
    netlink.transact((NFNL_MSG_BATCH_BEGIN, whole + only), changes, (NFNL_MSG_BATCH_END, whole))


def _table(netlink: Netlink, family: int, table: str) -> bytes | None:
    try:
        return netlink.ask(GETTABLE, _nfgenmsg(family) + attribute(NFTA_NAME_OF_TABLE, text(table)))[NFGENMSG:]
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _generation(netlink: Netlink) -> int:
    found = attributes(netlink.ask(GETGEN, _nfgenmsg(0))[NFGENMSG:])
    return int(unpack_from("!I", found[NFTA_GEN_ID])[0])


def _comment(userdata: bytes) -> str:
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == UDATA_TABLE_COMMENT:
            return _name(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""


def _name(value: bytes) -> str:
    """Whoever wrote it may have written anything."""
    return value.partition(b"\0")[0].decode(errors="replace")


def _nfgenmsg(family: int) -> bytes:
    return pack("=BBH", family, 0, 0)
