"""Who is enrolled, from several sources, as one table. Pure; `publication.py` carries it to the upgrader.

Where two sources name the same (network, port), this node's own workloads go before what was pushed by the API, and
that before the file: who is here is known best here, and a file is the oldest knowledge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from jfe_cni.agent.objects import DirectoryEntry, Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Key = tuple[Network, int | None]
OWN, API, FILE = "own", "api", "file"
_PRECEDENCE = (FILE, API, OWN)


@dataclass(frozen=True)
class Delta:
    """What turns one directory into another: entries to put in or to replace, and to take out."""

    put: tuple[DirectoryEntry, ...]
    removed: tuple[DirectoryEntry, ...]

    def __bool__(self) -> bool:
        return bool(self.put or self.removed)


class Directory:
    """Entries by source. What a source gives replaces all that it gave before."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[Key, DirectoryEntry]] = {source: {} for source in _PRECEDENCE}
        # Keys of entries that were put or taken out since somebody last asked: with thousands of entries, to compare
        # all of them at each change would take longer than the change.
        self._touched: set[Key] = set()

    def replace(self, source: str, entries: Iterable[DirectoryEntry]) -> None:
        self._touched |= self._sources[source].keys()
        self._sources[source] = {}
        self.put(source, entries)

    def put(self, source: str, entries: Iterable[DirectoryEntry]) -> None:
        new = {entry.key: entry for entry in entries}
        self._sources[source] |= new
        self._touched |= new.keys()

    def remove(self, source: str, keys: Iterable[Key]) -> list[Key]:
        """Takes out what is there; gives the keys that were not."""
        wanted = list(keys)
        self._touched |= set(wanted)
        return [key for key in wanted if self._sources[source].pop(key, None) is None]

    def take_touched(self) -> set[Key]:
        """The keys of all that may have changed since this was last called."""
        touched, self._touched = self._touched, set()
        return touched

    def those_of(self, keys: Iterable[Key]) -> dict[Key, DirectoryEntry]:
        """As `merged`, of these keys alone."""
        found: dict[Key, DirectoryEntry] = {}
        for key in keys:
            for source in _PRECEDENCE:
                if key in self._sources[source]:
                    found[key] = self._sources[source][key]
        return found

    def of_source(self, source: str) -> tuple[DirectoryEntry, ...]:
        return tuple(self._sources[source].values())

    def merged(self) -> dict[Key, DirectoryEntry]:
        merged: dict[Key, DirectoryEntry] = {}
        for source in _PRECEDENCE:
            merged |= self._sources[source]
        return merged

    def find(self, address: Address, port: int | None) -> DirectoryEntry | None:
        """The entry that answers for a peer that listens there, found as the upgrader does (decide/src/directory.rs):
        the longest prefix, and of one network the entry for the port first; a port that it excludes is a stranger's,
        and no wider network is asked."""
        for network, entries in self._by_prefix(address):
            entry = entries.get((network, port)) or entries.get((network, None))
            if entry is not None:
                return None if port in entry.excluded_ports else entry
        return None

    def _by_prefix(self, address: Address) -> Iterable[tuple[Network, dict[Key, DirectoryEntry]]]:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        entries = self.merged()
        prefixes = {network.prefixlen for network, _ in entries if network.version == address.version}
        for prefix in sorted(prefixes, reverse=True):
            yield ipaddress.ip_network((address, prefix), strict=False), entries


def delta(before: dict[Key, DirectoryEntry], after: dict[Key, DirectoryEntry]) -> Delta:
    put = tuple(entry for key, entry in after.items() if before.get(key) != entry)
    removed = tuple(entry for key, entry in before.items() if key not in after)
    return Delta(put, removed)


def own_entries(
    addresses: Iterable[Address], identity: str, ports: Iterable[int] | None, excluded_ports: tuple[int, ...]
) -> list[DirectoryEntry]:
    """A covered workload's entries: every port of its addresses, or where it shares them, the ports it listens on."""
    wanted: list[int | None] = [None] if ports is None else [port for port in ports if port not in excluded_ports]
    return [
        DirectoryEntry(
            network=ipaddress.ip_network(address),
            port=port,
            identity=identity,
            cover="covered",
            excluded_ports=excluded_ports if port is None else (),
            source=OWN,
        )
        for address in sorted(addresses, key=lambda address: (address.version, int(address)))
        for port in wanted
    ]
