"""What is remembered of exporters, and how much of it: their addresses can be forged, so that all of it has a cap.

Where a cap is reached the exporter that has most gives way first, and of its observation domains the one that has been
silent longest: who forges one exporter takes from that one. Of exporters that have as much the longest silent gives
way, so that one who forges very many exporters at once can still make the templates of others be waited for anew.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.decoders.normalise import INITIALISED, unsigned
from jfe_cni.overflowd.decoders.sampling import Sampling
from jfe_cni.overflowd.decoders.templates import LIFETIME, Columns, Template, Templates
from jfe_cni.overflowd.dropped import Dropped, Drops

_ALL_TEMPLATES, _ALL_OPTIONS = 2, 3

# So many fields take as much as a template takes beside its fields, as measured.
_TEMPLATE = 6
# Bytes that a piece of data takes beside its own, with the list and the entry of its template: 230, as measured.
PIECE = 256

# Longer than exporters take to send their templates again, as most are set: some minutes, half an hour at most.
OLDEST: Microseconds = 1_800_000_000
_SWEEP: Microseconds = 60_000_000
# What gives way at once, of all, for to look for it takes as long as to look at every domain; and how much of the data
# that wait one exporter may have.
_PART = 8
# Milliseconds. `sysUpTime`; how far apart the parts of one router may be that export for one domain (Cisco's have been
# seen two minutes apart); and what who has just been started has at most.
_WRAP, _DISORDER, _YOUNG = 2**32, 600_000, 1_800_000
# Of the year 9999.
_LATEST = 253_402_300_799_000


@dataclass(frozen=True)
class Limits:
    """`domains`: observation domains of all exporters. `templates`: of each. `fields`: of all templates, each of which
    takes about 200 bytes, and is counted as six fields more; a sampler is counted as one. `waiting`: bytes of data, of
    all domains, that are kept until their templates come, and `waiting_of_one` of one domain, an eighth of all of one
    exporter; each piece is counted with what it takes beside. `records`: of a batch, those of fields whose length
    varies counted as one for eight octets at least; what one datagram brings is decoded whole."""

    domains: int = 4_096
    templates: int = 256
    fields: int = 500_000
    waiting: int = 67_108_864
    waiting_of_one: int = 1_048_576
    records: int = 131_072


@dataclass(frozen=True, slots=True)
class Waiting:
    """`at`: when it came, by the clock here."""

    records: bytes
    exported: int
    started: int
    at: Microseconds

    @property
    def size(self) -> int:
        return len(self.records) + PIECE

    def is_too_old(self, at: Microseconds) -> bool:
        """Also where the clock was set back since: then nobody knows."""
        return abs(at - self.at) > OLDEST


@dataclass(eq=False)
class Domain:
    """`heard`: the higher, the later. `fields`: of all its templates and samplers, as they are counted. `uptime`:
    milliseconds, of v9; `started`: microseconds since the epoch, where options tell it; 0, they do not."""

    exporter: Address
    templates: Templates = field(default_factory=Templates)
    sampling: Sampling = field(default_factory=Sampling)
    waiting: dict[int, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    waiting_bytes: int = 0
    heard: int = 0
    fields: int = 0
    uptime: int = 0
    started: Microseconds = 0


class Domains:
    def __init__(self, limits: Limits, drops: Drops) -> None:
        self._limits = limits
        self._drops = drops
        self._domains: dict[tuple[Address, int, int], Domain] = {}
        self._waiting = 0
        self._waiting_of: Counter[Address] = Counter()
        self._share = max(limits.waiting_of_one, limits.waiting // _PART)
        self._fields = 0
        self._heard = 0
        self._swept: Microseconds = 0

    def of(self, exporter: Address, version: int, number: int) -> Domain:
        key = (exporter, version, number)
        domain = self._domains.get(key)
        if domain is None:
            if len(self._domains) >= self._limits.domains:
                goal = self._limits.domains - max(1, self._limits.domains // _PART)
                self._give_way(lambda _: 1, len(self._domains) - goal, None)
            domain = self._domains[key] = Domain(exporter)
        self._heard += 1
        domain.heard = self._heard
        return domain

    def learn(self, domain: Domain, template: Template, at: Microseconds) -> Sequence[Waiting]:
        """The data that have waited for it."""
        known = domain.templates.known
        if not template.is_fit:
            self._drops[Dropped.UNFIT_TEMPLATE] += 1
            # What is said anew is not what was said before.
            self.withdraw(domain, template.number)
            return ()
        former = known.get(template.number)
        if former == template:
            # Sent again, as every few minutes: what is compiled stays, and it is the last told.
            known[template.number] = known.pop(template.number)
            domain.templates.told[template.number] = at
            return ()
        self.withdraw(domain, template.number)
        if _counted(template) > self._limits.fields:
            self._drops[Dropped.TOO_MANY_TEMPLATES] += 1
            return ()
        if len(known) >= self._limits.templates:
            self._withdraw_oldest(domain)
        known[template.number] = template
        domain.templates.told[template.number] = at
        self._add(domain, _counted(template))
        waited = domain.waiting.pop(template.number, [])
        self._account(domain, -sum(each.size for each in waited))
        fresh = [each for each in waited if not each.is_too_old(at)]
        if len(fresh) < len(waited):
            self._drops[Dropped.NO_TEMPLATE] += len(waited) - len(fresh)
        return fresh

    def known(self, domain: Domain, number: int, at: Microseconds) -> Template | None:
        """None, also where it was told too long ago (RFC 3954, section 9; RFC 7011, section 8.4)."""
        template = domain.templates.known.get(number)
        if template is not None and abs(at - domain.templates.told[number]) > LIFETIME:
            self.withdraw(domain, number)
            return None
        return template

    def learn_options(self, domain: Domain, options: Columns, at: Microseconds) -> None:
        before = domain.sampling.size
        domain.sampling.learn(options, at)
        self._add(domain, domain.sampling.size - before)
        initialised = unsigned(options, INITIALISED)
        if initialised is not None and options.count:
            # Milliseconds; of a time that no clock shows it is none.
            domain.started = min(int(initialised[-1]), _LATEST) * 1_000

    def note_uptime(self, domain: Domain, uptime: int) -> None:
        """An exporter that was started anew gives its numbers to other templates (RFC 3954, section 9). `uptime`:
        milliseconds, which begin again by themselves after 49.7 days."""
        back = domain.uptime - uptime
        if 0 < back <= _DISORDER:
            return
        if back > 0 and uptime < _YOUNG and domain.uptime < _WRAP - LIFETIME // 1_000:
            for number in list(domain.templates.known):
                self.withdraw(domain, number)
            self._add(domain, -domain.sampling.size)
            domain.sampling = Sampling()
        domain.uptime = uptime

    def withdraw(self, domain: Domain, number: int) -> None:
        """`number`: of a template, or of a kind of them (RFC 7011, section 8.1)."""
        known = domain.templates.known
        if number in (_ALL_TEMPLATES, _ALL_OPTIONS):
            for each in [each for each, found in known.items() if bool(found.scopes) == (number == _ALL_OPTIONS)]:
                self.withdraw(domain, each)
        elif number in known:
            del domain.templates.told[number]
            self._add(domain, -_counted(known.pop(number)))

    def wait(self, domain: Domain, number: int, records: bytes, exported: int, started: int, at: Microseconds) -> None:
        if not records:
            return
        waiting = Waiting(records, exported, started, at)
        if (
            self._waiting + waiting.size > self._limits.waiting
            or domain.waiting_bytes + waiting.size > self._limits.waiting_of_one
            or self._waiting_of[domain.exporter] + waiting.size > self._share
        ):
            self._drops[Dropped.NO_TEMPLATE] += 1
            return
        self._account(domain, waiting.size)
        domain.waiting[number].append(waiting)

    def sweep(self, at: Microseconds) -> None:
        """Gives up what has waited too long; looks for it once a minute. `at`: now."""
        if abs(at - self._swept) < _SWEEP:
            return
        self._swept = at
        for domain in self._domains.values():
            for number, waited in list(domain.waiting.items()):
                old = [each for each in waited if each.is_too_old(at)]
                if not old:
                    continue
                self._drops[Dropped.NO_TEMPLATE] += len(old)
                self._account(domain, -sum(each.size for each in old))
                domain.waiting[number] = [each for each in waited if not each.is_too_old(at)]
                if not domain.waiting[number]:
                    del domain.waiting[number]

    def _account(self, domain: Domain, octets: int) -> None:
        self._waiting += octets
        domain.waiting_bytes += octets
        left = self._waiting_of[domain.exporter] + octets
        if left:
            self._waiting_of[domain.exporter] = left
        else:
            del self._waiting_of[domain.exporter]

    def _add(self, domain: Domain, fields: int) -> None:
        """Where there are too many, others give way."""
        self._fields += fields
        domain.fields += fields
        if fields > 0 and self._fields > self._limits.fields:
            goal = self._limits.fields - self._limits.fields // _PART
            self._give_way(lambda each: each.fields, self._fields - goal, domain)

    def _withdraw_oldest(self, domain: Domain) -> None:
        """The template that was told longest ago."""
        self._drops[Dropped.TOO_MANY_TEMPLATES] += 1
        self.withdraw(domain, next(iter(domain.templates.known)))

    def _give_way(self, weight: Callable[[Domain], int], excess: int, learning: Domain | None) -> None:
        """Until it is less by `excess`. `learning`: it loses templates, but the last, and stays."""
        domains: dict[Address, list[tuple[tuple[Address, int, int], Domain]]] = defaultdict(list)
        for key, domain in sorted(self._domains.items(), key=lambda item: -item[1].heard):
            if weight(domain):
                domains[key[0]].append((key, domain))
        weights = {exporter: sum(weight(each) for _, each in found) for exporter, found in domains.items()}
        # Of two that weigh as much, who was silent longer.
        order = [(-weights[each], found[0][1].heard, each.version, each) for each, found in domains.items()]
        heapq.heapify(order)
        while excess > 0 and order:
            _, heard, version, exporter = heapq.heappop(order)
            held = domains[exporter]
            place = len(held) - 1
            if held[place][1] is learning and place:
                place -= 1
            key, domain = held[place]
            before = weight(domain)
            if domain is not learning:
                self._forget(key)
                del held[place]
                gone = before
            elif len(domain.templates.known) > 1:
                self._withdraw_oldest(domain)
                gone = before - weight(domain)
            else:
                continue
            excess -= gone
            weights[exporter] -= gone
            if held:
                heapq.heappush(order, (-weights[exporter], heard, version, exporter))

    def _forget(self, key: tuple[Address, int, int]) -> None:
        domain = self._domains.pop(key)
        self._drops[Dropped.TOO_MANY_EXPORTERS] += 1
        if domain.waiting:
            self._drops[Dropped.NO_TEMPLATE] += sum(len(each) for each in domain.waiting.values())
        self._fields -= domain.fields
        self._account(domain, -domain.waiting_bytes)


def _counted(template: Template) -> int:
    return len(template.fields) + _TEMPLATE
