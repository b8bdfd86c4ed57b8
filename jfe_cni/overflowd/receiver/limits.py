"""How often something may be: so many at once, and so many a window from then on; and how much at one time. Pure, with
exact numbers, and bounded in memory. The generic cell rate algorithm (ITU-T I.371, annex A) as a virtual schedule: one
integer a name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Generic, TypeVar

from jfe_cni.overflowd.datagrams import Address, Microseconds

_PREFIX = {4: 24, 6: 48}
"""Bits that somebody may have all of: the least that is announced between networks (RFC 7454, section 6.1.3)."""

MOST_NAMES = 65_536

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Limit:
    """`count` at once, then one each `window / count`."""

    count: int
    window: Microseconds


class Buckets(Generic[Name]):
    """One bucket for each name. `now`: of a clock that is never set, or one that is set back would close them for as
    long. `most`: of names; where there are more, the one that was asked for longest ago is full
    again, so that `Sources` has a bucket for all of them, too."""

    def __init__(self, limit: Limit, most: int = MOST_NAMES) -> None:
        self._limit = limit
        self._most = most
        # When the bucket is full again, in parts of a microsecond: times `count`, so that nothing is rounded.
        self._full: OrderedDict[Name, int] = OrderedDict()

    def has(self, name: Name, now: Microseconds) -> bool:
        count, window = self._limit.count, self._limit.window
        return self._full.get(name, 0) - now * count <= window * (count - 1)

    def take(self, name: Name, now: Microseconds) -> bool:
        """Whether it might."""
        if not self.has(name, now):
            return False
        self._full[name] = max(self._full.get(name, 0), now * self._limit.count) + self._limit.window
        self._full.move_to_end(name)
        if len(self._full) > self._most:
            self._full.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._full)


class Sources:
    """What each network may send, and all together: who is refused for its own sake takes nothing from the others."""

    def __init__(self, each: Limit, together: Limit, most: int = MOST_NAMES) -> None:
        self._each = Buckets[str](each, most)
        self._together = Buckets[None](together, 1)

    def take(self, address: Address, now: Microseconds) -> bool:
        name = prefix(address)
        return self._each.has(name, now) and self._together.take(None, now) and self._each.take(name, now)


class AtOnce:
    """So many at one time: in all, and of each network. `each`: None, as many as in all. `exempt`: whose networks have
    no such bound: proxies, behind whom everybody is."""

    def __init__(self, together: int, each: int | None = None, exempt: Callable[[Address], bool] | None = None) -> None:
        self._together = together
        self._each = together if each is None else each
        self._exempt = exempt
        self._of: dict[str, int] = {}
        self._all = 0

    def take(self, address: Address) -> bool:
        """Whether it might: then it is to be given back."""
        name = prefix(address)
        taken = self._of.get(name, 0)
        free = taken < self._each or (self._exempt is not None and self._exempt(address))
        if not free or self._all >= self._together:
            return False
        self._of[name] = taken + 1
        self._all += 1
        return True

    def give_back(self, address: Address) -> None:
        name = prefix(address)
        self._all -= 1
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]

    def __len__(self) -> int:
        return self._all


def of_host(name: str) -> Address:
    """As a socket, or a proxy, has it. Raises ValueError."""
    address = ip_address(name.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def prefix(address: Address) -> str:
    return str(ip_network((address, _PREFIX[address.version]), strict=False))
