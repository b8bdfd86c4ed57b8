"""From what exporters send to flows: NetFlow v5 and v9, IPFIX, sFlow v5. Pure: state and datagrams in, batches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jfe_cni.overflowd.datagrams import Datagram, Microseconds
from jfe_cni.overflowd.decoders import sets, sflow
from jfe_cni.overflowd.decoders.batch import Batch, Format
from jfe_cni.overflowd.decoders.domains import Domains, Limits
from jfe_cni.overflowd.decoders.gathered import Gathered
from jfe_cni.overflowd.decoders.templates import Template, columns_of
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.tunnels import Tunnels

__all__ = ["Batch", "Decoder", "Format", "Limits"]


_V5, _WITH_SETS = b"\0\5", (b"\0\x09", b"\0\x0a")


class Decoder:
    """Remembers templates and samplers, for each exporter and domain, within limits. `drops`: what was not decoded.
    `tunnels`: those of the site's own, whose inside is the flow, where a sampled header shows it."""

    def __init__(self, limits: Limits | None = None, tunnels: Tunnels | None = None) -> None:
        self.drops: Drops = Drops()
        self._tunnels = tunnels or Tunnels()
        limits = limits or Limits()
        self._most_records = limits.records
        self._domains = Domains(limits, self.drops)

    def decode(self, datagrams: Sequence[Datagram]) -> list[Batch]:
        """All of `batches`."""
        return list(self.batches(datagrams))

    def batches(self, datagrams: Sequence[Datagram]) -> Iterator[Batch]:
        """The flows of all of them, no more at once than `Limits.records` and what one datagram brings. To be given
        many datagrams at once. Where a template comes after its data, those are decoded when it comes."""
        if not datagrams:
            return
        gathered = Gathered(self.drops, self._tunnels)
        self._domains.sweep(datagrams[-1].at)
        for datagram in datagrams:
            payload = datagram.payload
            version = payload[:2]
            if version == _V5:
                gathered.add_v5(datagram.exporter, payload)
            elif version in _WITH_SETS:
                self._take_sets(datagram, gathered)
            elif payload[:4] == b"\0\0\0\5":
                header = sflow.parse(payload)
                if header is None:
                    self.drops[Dropped.MALFORMED] += 1
                else:
                    gathered.add_samples(datagram.exporter, header, datagram.at)
            else:
                self.drops[Dropped.UNKNOWN_VERSION] += 1
            if gathered.records >= self._most_records:
                yield from gathered.batches(datagram.at)
        yield from gathered.batches(datagrams[-1].at)

    def _take_sets(self, datagram: Datagram, gathered: Gathered) -> None:
        message = sets.parse(datagram.payload)
        if message is None:
            self.drops[Dropped.MALFORMED] += 1
            return
        if message.cut_off:
            self.drops[Dropped.CUT_OFF] += 1
        domain = self._domains.of(datagram.exporter, message.version, message.domain)
        if message.version == 9:
            self._domains.note_uptime(domain, message.uptime)

        def take(template: Template, records: bytes, exported: Microseconds, started: Microseconds) -> None:
            if template.scopes:
                self._domains.learn_options(domain, columns_of(template, [records]), datagram.at)
            elif not template.has_addresses:
                self.drops[Dropped.NO_ADDRESSES] += 1
            else:
                started = started or domain.started
                gathered.add_records(
                    datagram.exporter, message.version, message.domain, domain, template, records, exported, started
                )

        try:
            for found in sets.sets_of(message):
                match found:
                    case Template():
                        for waited in self._domains.learn(domain, found, datagram.at):
                            take(found, waited.records, waited.exported, waited.started)
                    case sets.Withdrawn(number):
                        self._domains.withdraw(domain, number)
                    case sets.Data(number, records):
                        template = self._domains.known(domain, number, datagram.at)
                        if template is None:
                            self._domains.wait(domain, number, records, message.exported, message.started, datagram.at)
                        else:
                            take(template, records, message.exported, message.started)
                    case Dropped():
                        self.drops[found] += 1
        except sets.Malformed:
            self.drops[Dropped.MALFORMED] += 1
