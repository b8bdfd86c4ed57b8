"""What `nft` has made of a ruleset, to be put into other namespaces without it.

A form is the kernel's own dump of a table, said again as the messages that make one. It is a guess at what the kernel
wants to hear, and not trusted: what it has made is read back, and compared with what `nft` had made, by `content`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from struct import pack

from jfe_cni.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Change,
    attribute,
    attributes,
    each_attribute,
)
from jfe_cni.kernel.tables import (
    DIGEST,
    GETCHAIN,
    GETFLOWTABLE,
    GETOBJ,
    GETRULE,
    GETSET,
    GETSETELEM,
    GETTABLE,
    NEWCHAIN,
    NEWOBJ,
    NEWRULE,
    NEWSET,
    NEWSETELEM,
    NFTA_OBJ_DATA,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_TABLE_USERDATA,
    Part,
)

LIMIT = 32
"""Forms that are kept, of some 20 KiB each. Those of a node's pods differ by mode, IPv6 and ports: the upgrader takes
the same ports wherever nobody has them."""

NFTA_SET_ID = 10
_ELEMENTS = GETSETELEM, NFTA_SET_ELEM_LIST_ELEMENTS

_NEW = {
    GETCHAIN: (NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL),
    GETOBJ: (NEWOBJ, NLM_F_CREATE | NLM_F_EXCL),
    GETSET: (NEWSET, NLM_F_CREATE | NLM_F_EXCL),
    GETSETELEM: (NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL),
    GETRULE: (NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
}
"""How each kind is made. In this order: a rule names all others, and is the end of a set that has no name, to which
nothing is added any more (nf_tables_newsetelem); an element names objects and chains."""

_SAID = {
    # NFTA_CHAIN_TABLE, _NAME, _HOOK, _POLICY, _TYPE, _USERDATA. NFTA_CHAIN_FLAGS follows from the hook.
    GETCHAIN: {1, 3, 4, 5, 7, 12},
    # NFTA_OBJ_TABLE, _NAME, _TYPE, _DATA, _USERDATA
    GETOBJ: {1, 2, 3, 4, 8},
    # NFTA_SET_TABLE, _NAME, _FLAGS, _KEY_TYPE, _KEY_LEN, _DATA_TYPE, _DATA_LEN, _POLICY, _DESC, _USERDATA, _OBJ_TYPE
    GETSET: {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15},
    # NFTA_SET_ELEM_LIST_TABLE, _SET, _ELEMENTS
    GETSETELEM: {1, 2, 3},
    # NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS, _USERDATA
    GETRULE: {1, 2, 4, 7},
}
"""The attributes that make a thing. Dumps have others, and more with newer kernels, which refuse to be told them."""

_OWN = {
    # NFTA_TABLE_HANDLE, and the comment
    GETTABLE: {4, NFTA_TABLE_USERDATA},
    # NFTA_CHAIN_HANDLE
    GETCHAIN: {2},
    # NFTA_RULE_HANDLE, _POSITION (the handle of the rule before)
    GETRULE: {3, 6},
    # NFTA_SET_HANDLE
    GETSET: {16},
    GETSETELEM: set(),
    # NFTA_OBJ_HANDLE
    GETOBJ: {6},
    # NFTA_FLOWTABLE_HANDLE
    GETFLOWTABLE: {5},
}
"""The attributes by which two tables of one content differ. linux/netfilter/nf_tables.h, as all numbers here."""


@dataclass
class Form:
    """`changes` make the content of a table (bodies without struct nfgenmsg); `content`: the digest of what they must
    make, in hexadecimal. `made`: the digest (`TableState.inner`) of what they have made, once that was compared."""

    changes: tuple[Change, ...]
    content: str
    made: str | None = None

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Form:
        """Of a table as `nft` has made it, read whole."""
        whole = list(parts)
        return cls(tuple(_changes(whole)), content(whole))


def content(parts: Iterable[Part]) -> str:
    """A digest over all that a table consists of but handles and the table's comment.

    Of a set that comes in several messages the kernel may say the elements otherwise next time: no form has such."""
    digest = blake2b(digest_size=DIGEST)
    for kind, found in parts:
        same = b"".join(
            attribute(number, _sorted(value) if (kind, number) == _ELEMENTS else value)
            for number, value in each_attribute(found)
            if number not in _OWN[kind]
        )
        digest.update(pack("=HI", kind, len(same)) + same)
    return digest.hexdigest()


class Forms:
    """By key, for threads that load at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The least recently used first; None: it does not make what `nft` makes.
        self._forms: OrderedDict[str, Form | None] = OrderedDict()

    def find(self, key: str, make: Callable[[], Form]) -> Form | None:
        """The form of this key, made if there is none; None where it was refused. What `make` raises is raised.

        One is made at a time: of many pods that come at once, the others wait for the first one's."""
        with self._lock:
            if key not in self._forms:
                self._set(key, make())
            self._forms.move_to_end(key)
            return self._forms[key]

    def refuse(self, key: str) -> None:
        """No form is found by this key from now on, nor made."""
        with self._lock:
            self._set(key, None)

    def _set(self, key: str, form: Form | None) -> None:
        self._forms[key] = form
        while len(self._forms) > LIMIT:
            self._forms.popitem(last=False)


def _changes(parts: list[Part]) -> Iterator[Change]:
    for kind, (new, flags) in _NEW.items():
        for number, found in enumerate((found for each, found in parts if each == kind), 1):
            said = [attribute(each, value) for each, value in each_attribute(found) if each in _SAID[kind]]
            yield Change(new, flags, b"".join(said) + _asked_for(kind, number, found))


def _asked_for(kind: int, number: int, found: bytes) -> bytes:
    """What the kernel must be told and does not tell."""
    if kind == GETSET:
        # It is named wherever it is used, and so nobody looks it up by this.
        return attribute(NFTA_SET_ID, pack("!I", number))
    if kind == GETOBJ and NFTA_OBJ_DATA not in attributes(found):
        # A counter, without what it has counted: it begins at nothing.
        return attribute(NFTA_OBJ_DATA, b"")
    return b""


def _sorted(elements: bytes) -> bytes:
    return b"".join(sorted(attribute(kind, value) for kind, value in each_attribute(elements)))
