"""By which interfaces a network is reached, and so by which its packets may come: reverse-path filtering (RFC 3704,
section 2.3) on what routers tell, by all paths that are feasible (RFC 8704): the way there need not be the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.selection.interfaces import Interface, Mask, Numbers, interface_of
from jfe_cni.overflowd.selection.prefixes import Network, count_not_after, halves, range_of

_NO_ROUTE = 0
_ALL_IPV4 = ip_network("0.0.0.0/0")
_END = 1 << 128
_LARGEST_FILE = 256 * 1024 * 1024


@dataclass(frozen=True)
class Route:
    """`interfaces`: all by which packets from there may come."""

    network: Network
    interfaces: tuple[Interface, ...]


class Routes:
    """The longest prefix counts, of the exporter's own routes and those of no exporter's name. A source that no route
    covers is not judged, nor one of an exporter that has none of the interfaces."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        known = tuple(routes)
        exporters = {each.exporter for route in known for each in route.interfaces}
        self._tables = {exporter: _Table(_of_exporter(known, exporter)) for exporter in {None, *exporters}}
        self._some = bool(known)

    def __bool__(self) -> bool:
        return self._some

    def contradict(self, sources: npt.NDArray[np.uint8], inputs: Numbers, *exporters: Address | None) -> Mask:
        """Whether each source's network is reached by other interfaces than it came in by. `sources`: n times 16
        bytes. `inputs`: 0, it is not told. `exporters`: addresses of one, of which the first that is known counts."""
        named = (each for each in exporters if each in self._tables)
        return self._tables[next(named, None)].contradict(sources, inputs)


def _of_exporter(routes: Sequence[Route], exporter: Address | None) -> dict[Network, frozenset[int]]:
    # IPv4's addresses lie among IPv6's, and are not of IPv6's default route.
    found: dict[Network, frozenset[int]] = {_ALL_IPV4: frozenset()}
    for route in routes:
        numbers = frozenset(each.number for each in route.interfaces if each.exporter in (None, exporter))
        if numbers:
            found[route.network] = found.get(route.network, frozenset()) | numbers
    return found


class _Table:
    """Ranges of addresses side by side, each with the number of its set of interfaces."""

    def __init__(self, routes: dict[Network, frozenset[int]]) -> None:
        sets: dict[frozenset[int], int] = {frozenset(): _NO_ROUTE}
        starts, numbers = [], []
        for start, interfaces in _side_by_side(routes):
            if start < _END:
                starts.append(start)
                numbers.append(sets.setdefault(interfaces, len(sets)))
        self._starts = halves(starts)
        self._sets = np.array(numbers, "u8")
        pairs = (number << 32 | interface for interfaces, number in sets.items() for interface in interfaces)
        self._allowed = np.array(sorted(pairs), "u8")

    def contradict(self, sources: npt.NDArray[np.uint8], inputs: Numbers) -> Mask:
        words = np.ascontiguousarray(sources).view(">u8").astype("u8")
        at = count_not_after(self._starts, words) - 1
        sets = np.where(at >= 0, self._sets[np.maximum(at, 0)], _NO_ROUTE).astype("u8")
        allowed = np.isin(sets << np.uint64(32) | inputs, self._allowed)
        found: Mask = (sets != _NO_ROUTE) & (inputs != 0) & ~allowed
        return found


def _side_by_side(routes: dict[Network, frozenset[int]]) -> Iterator[tuple[int, frozenset[int]]]:
    """Where each range begins, and what holds from there on: prefixes lie in each other, or apart."""
    around: list[tuple[int, frozenset[int]]] = []
    for (first, last), interfaces in sorted(
        ((range_of(network), found) for network, found in routes.items()), key=lambda each: (each[0][0], -each[0][1])
    ):
        while around and around[-1][0] < first:
            ended, _ = around.pop()
            yield ended + 1, around[-1][1] if around else frozenset()
        yield first, interfaces
        around.append((last, interfaces))
    while around:
        ended, _ = around.pop()
        yield ended + 1, around[-1][1] if around else frozenset()


def read_routes(path: Path) -> Routes:
    """A line a prefix: `198.51.100.0/24 7 8@192.0.2.1`; what follows `#` is a remark. Raises RequestError."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise RequestError(f"{path} is too large", "leave out what is covered by shorter prefixes")
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise RequestError(f"the routes in {path} can't be read: {error}", "write PREFIX INTERFACE … a line") from error
    return Routes(_routes(lines, path))


def _routes(lines: Sequence[str], path: Path) -> Iterator[Route]:
    for number, line in enumerate(lines, 1):
        prefix, *interfaces = line.partition("#")[0].split() or [""]
        if not prefix:
            continue
        try:
            network = ip_network(prefix)
        except ValueError as error:
            raise RequestError(f"{path}, line {number}: {error}", "write PREFIX INTERFACE …") from error
        if not interfaces:
            raise RequestError(f"{path}, line {number}: no interface", "write PREFIX INTERFACE …")
        yield Route(network, tuple(interface_of(each) for each in interfaces))
