"""Who of this node's own workloads the directory calls covered: those that are, and from the moment they are."""

from __future__ import annotations

import logging
from collections.abc import Collection

from jfe_cni.agent.directory import OWN, Directory, own_entries
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import DirectoryEntry
from jfe_cni.agent.publication import Publication
from jfe_cni.agent.roster import Roster
from jfe_cni.agent.workload import Workload
from jfe_cni.errors import JfeError


class Announcement:
    def __init__(self, directory: Directory, publication: Publication, roster: Roster, log: logging.Logger) -> None:
        self._directory = directory
        self._publication = publication
        self._roster = roster
        self._log = log
        # What was gathered of each workload, and from what: 250 that are as they were need not be looked at again.
        self._gathered: dict[str, tuple[Workload, frozenset[int], list[DirectoryEntry]]] = {}

    def gather(self) -> None:
        """Brings the directory up to date, and tells nobody yet."""
        before, now = self._gathered, {}
        new: list[DirectoryEntry] = []
        less = False
        for record in self._roster:
            workload, yielded = record.workload, frozenset(record.yielded_ports)
            known = before.get(workload.id)
            if known is None or known[0] is not workload or known[1] != yielded:
                entries = entries_of(workload, yielded)
                if known is None or known[2] != entries:
                    new += entries
                    less = less or (known is not None and bool(known[2]))
                known = (workload, yielded, entries)
            now[workload.id] = known
        less = less or any(entries for name, (_, _, entries) in before.items() if name not in now)
        self._gathered = now
        if less:
            # What one gives up may be another's: two pods with one address.
            self._directory.replace(OWN, [entry for _, _, entries in now.values() for entry in entries])
        elif new:
            self._directory.put(OWN, new)

    async def announce(self) -> None:
        """Up to date, and said to the upgrader. Where that fails the next connection says all, so it is only logged."""
        self.gather()
        try:
            await self._publication.publish()
        except JfeError as error:
            self._log.warning("directory not published", extra=fields(error=str(error)))


def entries_of(workload: Workload, yielded_ports: Collection[int] = ()) -> list[DirectoryEntry]:
    if not workload.published:
        return []
    # Others share a host workload's addresses: it is known by the ports on which it listens.
    own = [port for port in workload.listener_ports if port not in yielded_ports]
    ports = own if workload.shape == "host" else None
    return own_entries(workload.addresses, workload.identity, ports, workload.settings.excluded_inbound_ports)
