"""From flows to the few of them that are told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jfe_cni.overflowd.datagrams import Microseconds, address_of
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.notices.notice import Class, End, Notice, Reporter, TracedFlow, new_nonce
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import Draw, of_notice, packets_behind
from jfe_cni.overflowd.selection.suspicion import CLASSES, Site, suspect


@dataclass
class Selector:
    """`nonce`: of each notice."""

    site: Site
    reporter: Reporter
    draw: Draw
    fan_in: FanIn
    nonce: Callable[[], str] = new_nonce

    def notices(self, flows: Flows, at: Microseconds) -> list[Notice]:
        """One for each flow that was drawn, to its destination (`notice.copies` makes the other). `at`: now."""
        if not len(flows):
            return []
        suspicion = suspect(flows, self.site, self.fan_in, at)
        chances = of_notice(packets_behind(flows["packets"], flows["sampling"]), suspicion.odds)
        return [
            Notice(
                to=End.DESTINATION,
                flow=traced(flows[number]),
                odds=float(suspicion.odds[number]),
                classified=CLASSES[suspicion.classes[number]],
                evidence=_evidence(CLASSES[suspicion.classes[number]], float(suspicion.sources[number])),
                reporter=self.reporter,
                made=at,
                nonce=self.nonce(),
            )
            for number in self.draw.chosen(chances).tolist()
        ]


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
    return TracedFlow(source, destination, **{name: int(row[name]) for name in numbers})


def _evidence(classified: Class, sources: float) -> tuple[str, ...]:
    match classified:
        case Class.FAN_IN:
            return (f"about {sources:.0f} sources to this destination within two minutes",)
        case Class.SPOOFED_SOURCE:
            return ("the source's network is on the other side of where it came from",)
        case _:
            return ()
