"""Of many notices, what a person wants to know: who floods whom, since when, how much, and who has seen it. Pure.

What is said rests on the reporters alone, and says so:

- *Packets*: a notice that a packet had the odds p of making stands for 1/p of them. Networks one behind the other carry
  the same packets: the estimate is what one network alone has told of, the one that told of most.
- *Whose*: who is one network is told by the domain that was registered (`domains.py`). Odds are easily invented, and
  names below a domain as well: a flood is the worse the more of such domains tell of it, whatever they say of its size.
- *Spoofed*: one network that finds a source forged (class `spoofed-source`: it did not come from where its own network
  is) is a suspicion. Two of them, of different domains, see it from different sides, and neither is where it says: that
  is as certain as the two are to be believed. Where further networks see the same source and find nothing wrong
  with it, some of it may be real: who they are is told beside it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.notices.notice import Class, End, Notice
from jfe_cni.overflowd.receiver.domains import registrable
from jfe_cni.overflowd.receiver.limits import prefix

Named = TypeVar("Named", bound=Hashable)

QUIET: Microseconds = 15 * 60 * 1_000_000
"""Without a notice for so long, it has ended: what comes later is another flood."""

MANY = 10
"""Notices of plain traffic from which on it is remarkable."""

# With these, at their worst, the floods are some 150 MB.
MOST_FLOODS = 500
MOST_SOURCES = 128
"""Prefixes of one flood that are told of each for itself."""

MOST_ADDRESSES = 256
"""Of one flood, whose being forged is looked at."""

MOST_REPORTERS = 64
MOST_OF_ONE = 4
"""Reporters that are names below one domain that was registered."""

MOST_PER_NOTICE = 1_000_000_000
"""Packets that one notice stands for at most: no odds are smaller than that in earnest."""


class Spoofed(StrEnum):
    """Whether a source is forged."""

    NOT_KNOWN = "not-known"
    SUSPECTED = "suspected"
    """By one network."""

    CERTAIN = "certain"
    """By two, each from its own side: none of them a name below the other's domain."""


class Side(StrEnum):
    """Which end's port tells the service: the smaller one is seldom chosen by chance (RFC 6335, section 6)."""

    FROM = "from"
    """As where servers are made to answer to whom they were not asked by."""

    TO = "to"
    NONE = "none"
    """The protocol has no ports, or they were not told."""


@dataclass(frozen=True, order=True)
class Name:
    """What one flood is: all that goes to that address (of `End.SOURCE`: in its name), of one service."""

    told: End
    target: str
    protocol: int
    port: int
    side: Side

    def __str__(self) -> str:
        return f"{self.told} {self.target} {self.protocol} {self.side} {self.port}"


@dataclass
class Seen:
    """`packets`: by reporter, about."""

    notices: int = 0
    packets: Counter[str] = field(default_factory=Counter)
    forged: set[str] = field(default_factory=set)
    unforged: set[str] = field(default_factory=set)

    def take(self, domain: str, notice: Notice, packets: int) -> None:
        self.notices += 1
        if domain in self.packets or self._has_room(domain):
            self.packets[domain] += packets
            forged = notice.classified is Class.SPOOFED_SOURCE
            (self.forged if forged else self.unforged).add(domain)

    def _has_room(self, domain: str) -> bool:
        of = registrable(domain)
        return (
            len(self.packets) < MOST_REPORTERS and sum(registrable(each) == of for each in self.packets) < MOST_OF_ONE
        )

    @property
    def estimate(self) -> int:
        return max(self.packets.values(), default=0)

    @property
    def spoofed(self) -> Spoofed:
        if not self.forged:
            return Spoofed.NOT_KNOWN
        return Spoofed.CERTAIN if len(set(map(registrable, self.forged))) > 1 else Spoofed.SUSPECTED


@dataclass
class Flood:
    """`sources`: by prefix; of `End.SOURCE` the destinations. `addresses`: single sources, forged or not. `others`:
    notices of more prefixes than are told of. `since`, `last`: when they were taken, of those that were read.
    `networks`: domains that somebody has registered, who tell of it. `evidence`: and who gives it, in the order in
    which it came."""

    name: Name
    since: Microseconds
    last: Microseconds
    whole: Seen = field(default_factory=Seen)
    sources: dict[str, Seen] = field(default_factory=dict)
    addresses: dict[Address, Seen] = field(default_factory=dict)
    others: int = 0
    classes: Counter[Class] = field(default_factory=Counter)
    networks: set[str] = field(default_factory=set)
    organisations: dict[str, str] = field(default_factory=dict)
    evidence: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def certainly_spoofed(self) -> int:
        """Addresses."""
        return sum(each.spoofed is Spoofed.CERTAIN for each in self.addresses.values())

    @property
    def spoofed(self) -> Spoofed:
        """The most that is known of any of its sources."""
        found = {each.spoofed for each in self.addresses.values()}
        return next((each for each in (Spoofed.CERTAIN, Spoofed.SUSPECTED) if each in found), Spoofed.NOT_KNOWN)

    @property
    def is_remarkable(self) -> bool:
        """More than a packet in a million of what anybody may well send."""
        return self.whole.notices >= MANY or self.whole.notices > self.classes[Class.TRAFFIC]


class Floods:
    """Bounded: where there are more than `most`, some of those are left out that are told of by no other network than
    the one that tells of most; among them those that were heard of longest ago."""

    def __init__(self, most: int = MOST_FLOODS) -> None:
        self._most = most
        self._floods: OrderedDict[Name, Flood] = OrderedDict()

    def take(self, taken: Microseconds, domain: str, notice: Notice) -> Flood | None:
        """The flood, if it has become remarkable by it."""
        name = name_of(notice)
        flood = self._floods.get(name)
        if flood is None:
            self._make_room()
        if flood is None or taken > flood.last + QUIET:
            flood = self._floods[name] = Flood(name, taken, taken)
        self._floods.move_to_end(name)
        was = flood.is_remarkable
        _add(flood, taken, domain, notice)
        return flood if flood.is_remarkable and not was else None

    def __iter__(self) -> Iterator[Flood]:
        """The last heard of first."""
        return reversed(self._floods.values())

    def __len__(self) -> int:
        return len(self._floods)

    def _make_room(self) -> None:
        if len(self._floods) < self._most:
            return
        # Some at once: who invents floods has us look at all of them seldom.
        networks = {name: flood.networks for name, flood in self._floods.items()}
        for name in expendable(networks, max(1, self._most // 16)):
            del self._floods[name]


def expendable(networks: Mapping[Named, Collection[str]], count: int) -> Sequence[Named]:
    """So many of them that are told of by no other network than those that tell of most; the first first. Who tells of
    all that others tell of makes none of it expendable: it is the one that tells of fewest that speaks for it."""
    told = Counter(network for each in networks.values() for network in each)
    return sorted(networks, key=lambda name: -min((told[network] for network in networks[name]), default=0))[:count]


def name_of(notice: Notice) -> Name:
    flow = notice.flow
    target = flow.source if notice.to is End.SOURCE else flow.destination
    if not (flow.source_port and flow.destination_port):
        port = flow.source_port or flow.destination_port
        side = Side.NONE if not port else Side.FROM if flow.source_port else Side.TO
    elif flow.source_port < flow.destination_port:
        port, side = flow.source_port, Side.FROM
    else:
        port, side = flow.destination_port, Side.TO
    return Name(notice.to, str(target), flow.protocol, port, side)


def _add(flood: Flood, taken: Microseconds, domain: str, notice: Notice) -> None:
    packets = min(round(1 / notice.odds), MOST_PER_NOTICE) if notice.odds > 1 / MOST_PER_NOTICE else MOST_PER_NOTICE
    flood.last = max(flood.last, taken)
    flood.whole.take(domain, notice, packets)
    flood.classes[notice.classified] += 1
    if len(flood.networks) < MOST_REPORTERS:
        flood.networks.add(registrable(domain))
    if domain in flood.organisations or len(flood.organisations) < MOST_REPORTERS:
        flood.organisations[domain] = notice.reporter.organisation
    for each in notice.evidence:
        if len(flood.evidence) < MOST_REPORTERS:
            flood.evidence[domain, each] = None
    # Of what is said in the name of one address, that address is the source: only the other ends differ.
    other = notice.flow.destination if notice.to is End.SOURCE else notice.flow.source
    network = prefix(other)
    if network in flood.sources or len(flood.sources) < MOST_SOURCES:
        flood.sources.setdefault(network, Seen()).take(domain, notice, packets)
    else:
        flood.others += 1
    source = notice.flow.source
    if source in flood.addresses or len(flood.addresses) < MOST_ADDRESSES:
        flood.addresses.setdefault(source, Seen()).take(domain, notice, packets)


MINUTE: Microseconds = 60 * 1_000_000


class Timeline:
    """Notices a minute, by class, of the last `minutes`."""

    def __init__(self, minutes: int = 120) -> None:
        self._minutes = minutes
        self._counts: dict[int, Counter[Class]] = {}

    def take(self, taken: Microseconds, classified: Class) -> None:
        minute = taken // MINUTE
        self._counts.setdefault(minute, Counter())[classified] += 1
        if len(self._counts) > self._minutes:
            del self._counts[min(self._counts)]

    def until(self, now: Microseconds) -> list[tuple[Microseconds, Counter[Class]]]:
        """Each minute's beginning and its notices, the current minute last."""
        last = now // MINUTE
        minutes = range(last - self._minutes + 1, last + 1)
        return [(minute * MINUTE, self._counts.get(minute, Counter())) for minute in minutes]
