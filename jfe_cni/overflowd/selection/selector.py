"""From flows to the few of them that are told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jfe_cni.overflowd.datagrams import Microseconds, address_of
from jfe_cni.overflowd.decoders.flows import Flows, both_ends
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.notices.notice import Class, Direction, End, Notice, Reporter, TracedFlow, new_nonce
from jfe_cni.overflowd.selection.border import at_border
from jfe_cni.overflowd.selection.duplicates import Duplicates, Observer
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import Draw, Probabilities, of_notice, packets_behind
from jfe_cni.overflowd.selection.suspicion import CLASSES, SIDES, Side, Site, Suspicion, suspect

_DIRECTIONS = {0: Direction.INGRESS, 1: Direction.EGRESS}


@dataclass
class Selector:
    """`duplicates`: what several routers tell of one packet; None, packets are counted at the site's border alone, or,
    where no interface of it is named, as often as they are told of. `nonce`: of each notice.
    `drops`: what nobody is told of, for another reason than the odds."""

    site: Site
    reporter: Reporter
    draw: Draw
    fan_in: FanIn
    duplicates: Duplicates | None = None
    nonce: Callable[[], str] = new_nonce
    drops: Drops = field(default_factory=Drops)

    def notices(
        self, flows: Flows, at: Microseconds, observer: Observer | None = None, most: int | None = None
    ) -> list[Notice]:
        """One for each flow that was drawn, to its destination (`notice.copies` makes the other). `at`: now.
        `observer`: of all these flows; None, there is one alone. `most`: notices; None, as many as are drawn."""
        whole = both_ends(flows)
        if not whole.all():
            self.drops[Dropped.NO_ADDRESSES] += int(np.count_nonzero(~whole))
            flows = flows[whole]
        if not len(flows):
            return []
        exporter = () if observer is None else observer.names
        suspicion = suspect(flows, self.site, self.fan_in, at, *exporter)
        packets = packets_behind(flows["packets"], flows["sampling"]) * self._shares(flows, at, observer, suspicion)
        chosen = self.draw.chosen(of_notice(packets, suspicion.odds))
        if most is not None and len(chosen) > most:
            self.drops[Dropped.TOO_MANY_NOTICES] += len(chosen) - most
            chosen = self.draw.some(chosen, most)
        return [
            Notice(
                to=End.DESTINATION,
                flow=traced(flows[number]),
                odds=float(suspicion.odds[number]),
                classified=CLASSES[suspicion.classes[number]],
                evidence=_evidence(suspicion, number),
                reporter=self.reporter,
                made=at,
                nonce=self.nonce(),
            )
            for number in chosen.tolist()
        ]

    def _shares(
        self, flows: Flows, at: Microseconds, observer: Observer | None, suspicion: Suspicion
    ) -> Probabilities | float:
        if observer is None:
            return 1.0
        if self.duplicates is not None:
            return self.duplicates.shares(flows, observer, at)
        return at_border(flows, self.site, observer.names, suspicion) if self.site.external else 1.0


def traced(row: np.void) -> TracedFlow:
    """What both ends may know: without interfaces and exporters."""
    numbers = (
        "source_port",
        "destination_port",
        "protocol",
        "tcp_flags",
        "packets",
        "octets",
        "first",
        "last",
        "sampling",
    )
    source, destination = address_of(row["source"].tobytes()), address_of(row["destination"].tobytes())
    direction = _DIRECTIONS.get(int(row["direction"]))
    return TracedFlow(source, destination, **{name: int(row[name]) for name in numbers}, direction=direction)


def _evidence(suspicion: Suspicion, number: int) -> tuple[str, ...]:
    """All that is held against the flow, whatever it is classed as."""
    classified, side = CLASSES[suspicion.classes[number]], SIDES[suspicion.sides[number]]
    found = []
    if side is not Side.NOT_FORGED:
        found.append(side.value)
    if classified is Class.FAN_IN:
        found.append(f"about {suspicion.sources[number]:.0f} sources to this destination within two minutes")
    return tuple(found)
