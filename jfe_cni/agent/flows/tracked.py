"""Flows of what conntrack tracks and the upgrader does not tell of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from jfe_cni.agent.flows.flow import EndReason, Ends, Flow, Milliseconds
from jfe_cni.agent.flows.unsent import Unsent, Unsents
from jfe_cni.kernel.conntrack import Entry, Tuple

MOST_ENTRIES = 65_536
"""Remembered, and told of in one look: some 400 bytes each. What is beyond is told of later, or when it ends."""

_ICMP, _TCP, _ICMPV6 = 1, 6, 58
_Count = tuple[int, int]


class Table(Protocol):
    """Entries; once they have been gone through, whether these were all."""

    whole: bool

    def __iter__(self) -> Iterator[Entry]: ...


class _Seen(NamedTuple):
    look: int
    sent: _Count
    returned: _Count


class Tracked:
    """`covered`: whether the upgrader tells of a connection with these ends. Of entries that were there at the first
    look, what they had counted before is not told: a former agent may have told it."""

    def __init__(self, covered: Callable[[Ends], bool], unsent: Unsents, most: int = MOST_ENTRIES) -> None:
        self._covered = covered
        self._unsent = unsent
        self._most = most
        self._seen: dict[bytes, _Seen] = {}
        self._look = 0
        self._looked: Milliseconds = 0

    def __len__(self) -> int:
        return len(self._seen)

    def begin(self, table: Table, at: Milliseconds) -> None:
        """The first look."""
        self._look += 1
        for entry in table:
            if entry.sent is not None and entry.returned is not None and len(self._seen) < self._most:
                self._seen[entry.key] = _Seen(self._look, entry.sent, entry.returned)
        self._looked = at

    def look(self, table: Table, at: Milliseconds) -> list[Flow]:
        """What each entry has counted since the last look, or since the one before where there was too much to tell."""
        self._look += 1
        flows: list[Flow] = []
        for entry in table:
            self._change(entry, flows, at)
        if table.whole:
            # A dump beside changes may miss one entry, but not the same one again and again.
            gone = [key for key, seen in self._seen.items() if seen.look < self._look - 1]
            for key in gone:
                del self._seen[key]
            self._unsent[Unsent.ENDED_UNSEEN] += len(gone)
        else:
            self._unsent[Unsent.CUT_OFF] += 1
        self._looked = at
        return flows

    def ended(self, entries: Iterable[Entry], at: Milliseconds) -> Iterator[Flow]:
        """What each had counted at its end and was not told."""
        for entry in entries:
            if entry.sent is None or entry.returned is None:
                continue
            seen = self._seen.pop(entry.key, None)
            yield from self._flows(entry, seen, at, EndReason.END if entry.protocol == _TCP else EndReason.IDLE)

    def _change(self, entry: Entry, flows: list[Flow], at: Milliseconds) -> None:
        if entry.sent is None or entry.returned is None:
            # Made before somebody switched accounting on.
            return
        seen = self._seen.get(entry.key)
        if seen is None and len(self._seen) >= self._most:
            return
        if len(flows) >= self._most:
            # It is there, and its turn comes.
            if seen is not None:
                self._seen[entry.key] = seen._replace(look=self._look)
            return
        self._seen[entry.key] = _Seen(self._look, entry.sent, entry.returned)
        if seen is None or (seen.sent, seen.returned) != (entry.sent, entry.returned):
            flows.extend(self._flows(entry, seen, at, EndReason.ACTIVE))

    def _flows(self, entry: Entry, seen: _Seen | None, at: Milliseconds, end: EndReason) -> Iterator[Flow]:
        original, reply, protocol = entry.original(), entry.reply(), entry.protocol
        if original.source.is_loopback and reply.source.is_loopback:
            return
        if protocol == _TCP and (self._covered(_ends(original)) or self._covered(_ends(reply).reversed())):
            return
        first = self._looked
        started = entry.started()
        if seen is None and started is not None:
            first = started // 1_000_000
        for ends, now, before in (
            (_from(original, reply, protocol), entry.sent, seen and seen.sent),
            (_from(reply, original, protocol), entry.returned, seen and seen.returned),
        ):
            packets, octets = (count - was for count, was in zip(now or (0, 0), before or (0, 0), strict=True))
            if packets > 0 and octets > 0:
                yield Flow(ends, protocol, packets, octets, min(first, at), at, end)


def _ends(of: Tuple) -> Ends:
    return Ends(of.source, of.source_port, of.destination, of.destination_port)


def _from(this: Tuple, other: Tuple, protocol: int) -> Ends:
    """From where `this` way's packets come to where the other's come from: the true ends, whatever NAT made of them on
    their way."""
    if protocol in (_ICMP, _ICMPV6):
        return Ends(this.source, 0, other.source, this.destination_port)
    return Ends(this.source, this.source_port, other.source, other.source_port)
