"""What many datagrams brought, until it is decoded at one stroke: what a batch costs, it costs once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.decoders import netflow_v5, samples, sflow
from jfe_cni.overflowd.decoders.batch import Batch, Format
from jfe_cni.overflowd.decoders.domains import Domain
from jfe_cni.overflowd.decoders.flows import Moments
from jfe_cni.overflowd.decoders.normalise import flows_of, way_back
from jfe_cni.overflowd.decoders.templates import Template, columns_of
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.tunnels import Tunnels

SHARE = 32_768
"""Of one exporter, what its batches may weigh: each as many as its fields, and `_BATCH` more. A field takes about 4
microseconds, a batch half a millisecond beside. That is some five hundred observation domains at once, or agents of
sFlow behind one address."""

_BATCH = 32
_SFLOW_FIELDS = 14


@dataclass
class _Pieces:
    """Of records of one template of one domain, and when each was sent."""

    format: Format
    exporter: Address
    number: int
    domain: Domain
    template: Template
    records: list[bytes] = field(default_factory=list)
    exported: list[int] = field(default_factory=list)
    started: list[int] = field(default_factory=list)


@dataclass
class _Sampled:
    """Of one agent: packets, and when each came."""

    packets: list[sflow.Sample] = field(default_factory=list)
    at: list[int] = field(default_factory=list)


class Gathered:
    """`records`: at most, as far as is known before they are decoded."""

    def __init__(self, drops: Drops, tunnels: Tunnels) -> None:
        self.records = 0
        self._drops = drops
        self._tunnels = tunnels
        self._v5: dict[Address, list[bytes]] = {}
        self._last: Address | None = None
        self._payloads: list[bytes] = []
        self._pieces: dict[tuple[Address, int, int, int], _Pieces] = {}
        self._sampled: dict[tuple[Address, Address, int], _Sampled] = {}
        self._weights: Counter[Address] = Counter()

    def add_v5(self, exporter: Address, payload: bytes) -> None:
        if exporter is not self._last:
            # Python hashes an address in a microsecond, and most come after others of their exporter.
            self._last, self._payloads = exporter, self._v5.setdefault(exporter, [])
        self._payloads.append(payload)
        self.records += len(payload) // netflow_v5.TEMPLATE.shortest

    def add_records(
        self, exporter: Address, version: int, number: int, domain: Domain, template: Template, records: bytes,
        exported: Microseconds, started: Microseconds,
    ) -> None:  # fmt: skip
        """`number`: of the domain."""
        # By the template itself: while a batch is gathered, another may take its number.
        key = (exporter, version, number, id(template))
        found = self._pieces.get(key)
        if found is None:
            if not self._has_room(exporter, len(template.fields)):
                return
            of_format = Format.NETFLOW_V9 if version == 9 else Format.IPFIX
            found = self._pieces[key] = _Pieces(of_format, exporter, number, domain, template)
        found.records.append(records)
        found.exported.append(exported)
        found.started.append(started)
        self.records += template.most_records(records)

    def add_samples(self, exporter: Address, header: sflow.Header, at: Microseconds) -> None:
        key = (exporter, header.agent, header.sub_agent)
        found = self._sampled.get(key)
        if found is None:
            if not self._has_room(exporter, _SFLOW_FIELDS):
                return
            found = self._sampled[key] = _Sampled()
        before = len(found.packets)
        for each in sflow.samples_of(header):
            if type(each) is sflow.Sample:
                found.packets.append(each)
            elif isinstance(each, Dropped):
                self._drops[each] += 1
        found.at += [at] * (len(found.packets) - before)
        self.records += len(found.packets) - before

    def batches(self, at: Microseconds) -> Iterator[Batch]:
        """All of it, which then is not here any more. `at`: now."""
        v5, pieces, sampled = self._v5, self._pieces, self._sampled
        self._v5, self._pieces, self._sampled, self._last = {}, {}, {}, None
        self._weights.clear()
        self.records = 0
        for exporter, payloads in v5.items():
            yield from self._of_v5(exporter, payloads)
        for each in pieces.values():
            yield from self._of_template(each, at)
        for (exporter, agent, sub_agent), found in sampled.items():
            flows = samples.flows_of(found.packets, found.at, self._drops, self._tunnels)
            if len(flows):
                yield Batch(Format.SFLOW, exporter, agent, sub_agent, flows, None)

    def _has_room(self, exporter: Address, fields: int) -> bool:
        """For one batch more. One exporter's, each of little, would take the time of all others."""
        weight = self._weights[exporter] + fields + _BATCH
        if weight > SHARE:
            self._drops[Dropped.TOO_MANY_BATCHES] += 1
            return False
        self._weights[exporter] = weight
        return True

    def _of_v5(self, exporter: Address, payloads: list[bytes]) -> Iterator[Batch]:
        engines, malformed = netflow_v5.parse(payloads)
        if malformed:
            self._drops[Dropped.MALFORMED] += malformed
        for each in engines:
            if not self._has_room(exporter, len(netflow_v5.TEMPLATE.fields)):
                continue
            columns = columns_of(netflow_v5.TEMPLATE, each.records)
            moments = Moments(each.counts, each.exported, each.started)
            flows = flows_of(columns, moments, np.repeat(each.sampling, each.counts))
            yield Batch(Format.NETFLOW_V5, exporter, exporter, each.engine, flows, columns)

    def _of_template(self, of: _Pieces, at: Microseconds) -> Iterator[Batch]:
        columns = columns_of(of.template, of.records)
        if columns.cut_off:
            self._drops[Dropped.CUT_OFF] += columns.cut_off
        moments = Moments(columns.counts, of.exported, of.started)
        flows = flows_of(columns, moments, of.domain.sampling.of(columns, at))
        yield Batch(of.format, of.exporter, of.exporter, of.number, flows, columns)
        back = way_back(columns, flows)
        if back is not None and len(back):
            yield Batch(of.format, of.exporter, of.exporter, of.number, back, None)
