"""What is remembered of exporters, and how much of it: their addresses can be forged, so that all of it has a cap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.decoders.sampling import Sampling
from jfe_cni.overflowd.decoders.templates import Template, Templates
from jfe_cni.overflowd.dropped import Dropped, Drops

_ALL_TEMPLATES, _ALL_OPTIONS = 2, 3


@dataclass(frozen=True)
class Limits:
    """`domains`: observation domains of all exporters. `templates`: of each. `fields`: of all templates, each of which
    takes about 200 bytes. `waiting`: bytes of data, of all domains,
    that are kept until their templates come, and `waiting_of_one` of one domain: an exporter sends templates again
    every few minutes."""

    domains: int = 4_096
    templates: int = 256
    fields: int = 500_000
    waiting: int = 67_108_864
    waiting_of_one: int = 1_048_576


@dataclass(frozen=True, slots=True)
class Waiting:
    records: bytes
    exported: int
    started: int


@dataclass
class Domain:
    templates: Templates = field(default_factory=Templates)
    sampling: Sampling = field(default_factory=Sampling)
    waiting: dict[int, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    waiting_bytes: int = 0


class Domains:
    def __init__(self, limits: Limits, drops: Drops) -> None:
        self._limits = limits
        self._drops = drops
        self._domains: dict[tuple[Address, int, int], Domain] = {}
        self._waiting = 0
        self._fields = 0

    def of(self, exporter: Address, version: int, number: int) -> Domain | None:
        """None: there are too many."""
        key = (exporter, version, number)
        domain = self._domains.get(key)
        if domain is None and len(self._domains) < self._limits.domains:
            domain = self._domains[key] = Domain()
        return domain

    def learn(self, domain: Domain, template: Template) -> Sequence[Waiting]:
        """The data that have waited for it."""
        known = domain.templates.known
        if not template.is_fit:
            self._drops[Dropped.UNFIT_TEMPLATE] += 1
            # What is said anew is not what was said before.
            self.withdraw(domain, template.number)
            return ()
        former = known.get(template.number)
        if former == template:
            # Sent again, as every few minutes: what is compiled stays.
            return ()
        self.withdraw(domain, template.number)
        if len(known) >= self._limits.templates or self._fields + len(template.fields) > self._limits.fields:
            self._drops[Dropped.TOO_MANY_TEMPLATES] += 1
            return ()
        known[template.number] = template
        self._fields += len(template.fields)
        waited = domain.waiting.pop(template.number, [])
        size = sum(len(each.records) for each in waited)
        self._waiting -= size
        domain.waiting_bytes -= size
        return waited

    def withdraw(self, domain: Domain, number: int) -> None:
        """`number`: of a template, or of a kind of them (RFC 7011, section 8.1)."""
        known = domain.templates.known
        if number in (_ALL_TEMPLATES, _ALL_OPTIONS):
            for each in [each for each, found in known.items() if bool(found.scopes) == (number == _ALL_OPTIONS)]:
                self.withdraw(domain, each)
        elif number in known:
            self._fields -= len(known.pop(number).fields)

    def wait(self, domain: Domain, number: int, records: bytes, exported: int, started: int) -> None:
        if (
            self._waiting + len(records) > self._limits.waiting
            or domain.waiting_bytes + len(records) > self._limits.waiting_of_one
        ):
            self._drops[Dropped.NO_TEMPLATE] += 1
            return
        self._waiting += len(records)
        domain.waiting_bytes += len(records)
        domain.waiting[number].append(Waiting(records, exported, started))
