"""From what exporters send to flows: NetFlow v5 and v9, IPFIX, sFlow v5. Pure: state and datagrams in, batches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from jfe_cni.overflowd.datagrams import Address, Datagram
from jfe_cni.overflowd.decoders import netflow_v5, samples, sets, sflow
from jfe_cni.overflowd.decoders.batch import Batch, Format
from jfe_cni.overflowd.decoders.domains import Domain, Domains, Limits
from jfe_cni.overflowd.decoders.flows import Moments
from jfe_cni.overflowd.decoders.normalise import flows_of
from jfe_cni.overflowd.decoders.templates import Template, columns_of, record_count
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.tunnels import Tunnels

__all__ = ["Batch", "Decoder", "Format", "Limits"]


_WALKED = 8


@dataclass
class _Group:
    """Pieces of records that are decoded at one stroke: of one template of one domain. `sampling`: of each piece, where
    the datagram itself says it."""

    format: Format
    exporter: Address
    number: int
    domain: Domain | None
    template: Template
    pieces: list[bytes] = field(default_factory=list)
    exported: list[int] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    sampling: list[int] = field(default_factory=list)

    def add(self, piece: bytes, exported: int, started: int, sampling: int = 0) -> None:
        self.pieces.append(piece)
        self.exported.append(exported)
        self.started.append(started)
        self.sampling.append(sampling)


@dataclass
class _Sampled:
    """Of one agent: packets, and when each came."""

    packets: list[sflow.Sample] = field(default_factory=list)
    at: list[int] = field(default_factory=list)


class Decoder:
    """Remembers templates and samplers, for each exporter and domain, within limits. `drops`: what was not decoded.
    `tunnels`: those of the site's own, whose inside is the flow, where a sampled header shows it."""

    def __init__(self, limits: Limits | None = None, tunnels: Tunnels | None = None) -> None:
        self.drops: Drops = Drops()
        self._tunnels = tunnels or Tunnels()
        limits = limits or Limits()
        self._most_records = limits.records
        self._gathered = 0
        self._domains = Domains(limits, self.drops)

    def decode(self, datagrams: Sequence[Datagram]) -> list[Batch]:
        """All of `batches`."""
        return list(self.batches(datagrams))

    def batches(self, datagrams: Sequence[Datagram]) -> Iterator[Batch]:
        """The flows of all of them, no more at once than `Limits.records` and what one datagram brings. To be given
        many datagrams at once: what a batch costs, it costs once. Where a template comes after its data, those are
        decoded when it comes."""
        groups: dict[tuple[object, ...], _Group] = {}
        sampled: dict[tuple[Address, Address, int], _Sampled] = {}
        self._gathered = 0
        if datagrams:
            self._domains.sweep(datagrams[-1].at)
        for datagram in datagrams:
            version = int.from_bytes(datagram.payload[:2])
            if version in (9, 10):
                self._sets(datagram, groups)
            elif version == 5:
                self._netflow_v5(datagram, groups)
            elif datagram.payload[:4] == b"\0\0\0\5":
                self._sflow(datagram, sampled)
            else:
                self.drops[Dropped.UNKNOWN_VERSION] += 1
            if self._gathered >= self._most_records:
                yield from self._flush(groups, sampled)
        yield from self._flush(groups, sampled)

    def _flush(
        self, groups: dict[tuple[object, ...], _Group], sampled: dict[tuple[Address, Address, int], _Sampled]
    ) -> Iterator[Batch]:
        """What was gathered, which then is not any more."""
        gathered, packets = list(groups.values()), list(sampled.items())
        groups.clear()
        sampled.clear()
        self._gathered = 0
        for group in gathered:
            yield _decoded(group)
        for (exporter, agent, sub_agent), found in packets:
            flows = samples.flows_of(found.packets, found.at, self.drops, self._tunnels)
            if len(flows):
                yield Batch(Format.SFLOW, exporter, agent, sub_agent, flows, None)

    def _netflow_v5(self, datagram: Datagram, groups: dict[tuple[object, ...], _Group]) -> None:
        header = netflow_v5.parse(datagram.payload)
        if header is None:
            self.drops[Dropped.MALFORMED] += 1
            return
        key = (datagram.exporter, header.domain)
        group = groups.get(key)
        if group is None:
            template = netflow_v5.TEMPLATE
            group = groups[key] = _Group(Format.NETFLOW_V5, datagram.exporter, header.domain, None, template)
        group.add(header.records, header.exported, header.started, header.sampling)
        self._gathered += len(header.records) // netflow_v5.TEMPLATE.shortest

    def _sets(self, datagram: Datagram, groups: dict[tuple[object, ...], _Group]) -> None:
        message = sets.parse(datagram.payload)
        if message is None:
            self.drops[Dropped.MALFORMED] += 1
            return
        if message.cut_off:
            self.drops[Dropped.CUT_OFF] += 1
        domain = self._domains.of(datagram.exporter, message.version, message.domain)
        of_format = Format.NETFLOW_V9 if message.version == 9 else Format.IPFIX

        def take(template: Template, data: sets.Data, exported: int, started: int) -> None:
            if template.scopes:
                self._domains.learn_sampling(domain, columns_of(template, [data.records]))
                return
            if not template.has_addresses:
                self.drops[Dropped.NO_ADDRESSES] += 1
                return
            # By the template itself: while a batch is gathered, another may take its number.
            key = (datagram.exporter, message.version, message.domain, id(template))
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group(of_format, datagram.exporter, message.domain, domain, template)
            group.add(data.records, exported, started)
            # A field that is walked takes about as much as eight octets of a flow.
            least = template.shortest if template.is_fixed else min(template.shortest, _WALKED)
            self._gathered += len(data.records) // least

        try:
            for found in sets.sets_of(message):
                match found:
                    case Template():
                        for waited in self._domains.learn(domain, found, datagram.at):
                            take(found, sets.Data(found.number, waited.records), waited.exported, waited.started)
                    case sets.Withdrawn(number):
                        self._domains.withdraw(domain, number)
                    case sets.Data(number):
                        template = domain.templates.known.get(number)
                        if template is None:
                            self._domains.wait(
                                domain, number, found.records, message.exported, message.started, datagram.at
                            )
                        else:
                            take(template, found, message.exported, message.started)
        except sets.Malformed:
            self.drops[Dropped.MALFORMED] += 1

    def _sflow(self, datagram: Datagram, sampled: dict[tuple[Address, Address, int], _Sampled]) -> None:
        header = sflow.parse(datagram.payload)
        if header is None:
            self.drops[Dropped.MALFORMED] += 1
            return
        key = (datagram.exporter, header.agent, header.sub_agent)
        gathered = sampled.setdefault(key, _Sampled())
        before = len(gathered.packets)
        for found in sflow.samples_of(header):
            if type(found) is sflow.Sample:
                gathered.packets.append(found)
            elif isinstance(found, Dropped):
                self.drops[found] += 1
        gathered.at += [datagram.at] * (len(gathered.packets) - before)
        self._gathered += len(gathered.packets) - before


def _decoded(group: _Group) -> Batch:
    columns = columns_of(group.template, group.pieces)
    counts = [record_count(group.template, piece) for piece in group.pieces]
    moments = Moments(counts, group.exported, group.started)
    if group.domain is None:
        sampling = np.repeat(np.asarray(group.sampling, "u4"), counts)
    else:
        sampling = group.domain.sampling.of(columns)
    flows = flows_of(columns, moments, sampling)
    return Batch(group.format, group.exporter, group.exporter, group.number, flows, columns)
