"""What a flow is taken for, and how much likelier it is told of for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.interfaces import Interfaces
from jfe_cni.overflowd.selection.odds import DEFAULT, LARGEST, Probabilities
from jfe_cni.overflowd.selection.prefixes import Prefixes
from jfe_cni.overflowd.selection.routes import Routes

CLASSES = tuple(Class)
_NUMBER = {each: number for number, each in enumerate(CLASSES)}

ODDS: Mapping[Class, float] = {
    Class.TRAFFIC: DEFAULT,
    Class.FAN_IN: 10 * DEFAULT,
    Class.SPOOFED_SOURCE: 100 * DEFAULT,
    Class.REPORTED: 100 * DEFAULT,
}


class Side(StrEnum):
    """Where a forged source was seen to come from, in the words of the evidence."""

    NOT_FORGED = ""
    OUTSIDE = "the source is the reporter's own network, and came in from outside: it is forged out there"
    INSIDE = "the source is another network, and left from inside the reporter's: it is forged in there"
    OFF_ROUTE_OUTSIDE = "it came in from outside, by another interface than its source's network is reached by"
    OFF_ROUTE_INSIDE = "it came from inside, by another interface than its source's network is reached by"
    OFF_ROUTE = "it came by another interface than its source's network is reached by"


SIDES = tuple(Side)
_PLACE = {each: number for number, each in enumerate(SIDES)}


@dataclass(frozen=True)
class Site:
    """What the network that reports knows of itself. `own`: its prefixes, and its customers'. `external`: interfaces
    that lead to other networks. `transit`: between its routers others' traffic is carried: then what leaves by one of
    them may have come in by another, whosever its source. `routes`: by which interfaces networks are reached.
    `reported`: destinations that are named by hand. `many`: sources of one destination within two minutes from which
    on that is a fan-in."""

    own: Prefixes = field(default_factory=lambda: Prefixes(()))
    external: Interfaces = field(default_factory=Interfaces)
    transit: bool = False
    routes: Routes = field(default_factory=Routes)
    reported: Prefixes = field(default_factory=lambda: Prefixes(()))
    many: int = 200
    odds: Mapping[Class, float] = field(default_factory=lambda: ODDS)


@dataclass(frozen=True)
class Suspicion:
    """Of each flow: the class, as a place in `CLASSES`; the odds of each of its packets; about how many sources its
    destination has; by which side a forged source came, as a place in `SIDES`."""

    classes: npt.NDArray[np.intp]
    odds: Probabilities
    sources: Probabilities
    sides: npt.NDArray[np.intp]


def suspect(flows: Flows, site: Site, fan_in: FanIn, at: Microseconds, *exporter: Address) -> Suspicion:
    """Where several hold, the one that stands last in `Class`. `exporter`: whose interfaces the flows name, by all
    addresses that it has."""
    sources = fan_in.count(flows["source"], flows["destination"], at)
    sides = forged(flows, site, *exporter)
    classes = np.full(len(flows), _NUMBER[Class.TRAFFIC], np.intp)
    classes[sources >= site.many] = _NUMBER[Class.FAN_IN]
    classes[sides != _PLACE[Side.NOT_FORGED]] = _NUMBER[Class.SPOOFED_SOURCE]
    classes[site.reported.contain(flows["destination"])] = _NUMBER[Class.REPORTED]
    by_class = np.array([min(site.odds.get(each, DEFAULT), LARGEST) for each in CLASSES], "f8")
    return Suspicion(classes, by_class[classes], sources, sides)


def forged(flows: Flows, site: Site, *exporter: Address) -> npt.NDArray[np.intp]:
    """Where the source can't be whose it says, and by which side it came (places in `SIDES`): of ours, and it comes
    from outside; of others, and it goes out and did not come from outside (BCP 38); or its network is not where it
    came from (`routes.py`). The surer goes before."""
    sides = np.full(len(flows), _PLACE[Side.NOT_FORGED], np.intp)
    # An interface of number 0 is not told (RFC 7012 has no such; IF-MIB begins at 1).
    told = flows["input"] != 0
    enters, leaves = (site.external.contain(flows[name], *exporter) for name in ("input", "output"))
    if site.routes:
        off = site.routes.contradict(flows["source"], flows["input"], *exporter)
        if site.external:
            sides[off & enters] = _PLACE[Side.OFF_ROUTE_OUTSIDE]
            sides[off & ~enters] = _PLACE[Side.OFF_ROUTE_INSIDE]
        else:
            sides[off] = _PLACE[Side.OFF_ROUTE]
    if site.own and site.external:
        ours = site.own.contain(flows["source"])
        if not site.transit:
            sides[leaves & ~enters & told & ~ours] = _PLACE[Side.INSIDE]
        sides[enters & ours] = _PLACE[Side.OUTSIDE]
    return sides
