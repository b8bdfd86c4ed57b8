"""Which exporters are heard. Their addresses can be forged by whoever is on the way: the list keeps out all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from jfe_cni.overflowd.datagrams import Address, Datagram
from jfe_cni.overflowd.dropped import Dropped, Drops

# As many addresses as are remembered to be on the list, or not.
_MOST_REMEMBERED = 65_536


class Exporters:
    """`allowed`: networks; None, everybody, as in a laboratory."""

    def __init__(self, allowed: Sequence[IPv4Network | IPv6Network] | None, drops: Drops) -> None:
        self._allowed = allowed
        self._drops = drops
        self._known: dict[Address, bool] = {}

    def heard(self, datagrams: Iterable[Datagram]) -> list[Datagram]:
        """Those that are; the others are counted."""
        found = []
        for each in datagrams:
            if self._is_allowed(each.exporter):
                found.append(each)
            else:
                self._drops[Dropped.NOT_ALLOWED] += 1
        return found

    def _is_allowed(self, exporter: Address) -> bool:
        if self._allowed is None:
            return True
        known = self._known.get(exporter)
        if known is None:
            known = any(exporter.version == each.version and exporter in each for each in self._allowed)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[exporter] = known
        return known
