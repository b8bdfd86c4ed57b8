"""What a flow is taken for, and how much likelier it is told of for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import DEFAULT, LARGEST, Probabilities
from jfe_cni.overflowd.selection.prefixes import Mask, Prefixes

CLASSES = tuple(Class)
_NUMBER = {each: number for number, each in enumerate(CLASSES)}

ODDS: Mapping[Class, float] = {
    Class.TRAFFIC: DEFAULT,
    Class.FAN_IN: 10 * DEFAULT,
    Class.SPOOFED_SOURCE: 100 * DEFAULT,
    Class.REPORTED: 100 * DEFAULT,
}


@dataclass(frozen=True)
class Site:
    """What the network that reports knows of itself. `own`: its prefixes, and its customers'. `external`: interfaces
    (numbers, as exporters have them) that lead to other networks. `reported`: destinations that are named by hand.
    `many`: sources of one destination in a minute from which on that is a fan-in."""

    own: Prefixes = field(default_factory=lambda: Prefixes(()))
    external: frozenset[int] = frozenset()
    reported: Prefixes = field(default_factory=lambda: Prefixes(()))
    many: int = 200
    odds: Mapping[Class, float] = field(default_factory=lambda: ODDS)


@dataclass(frozen=True)
class Suspicion:
    """Of each flow: the class, as a place in `CLASSES`; the odds of each of its packets; about how many sources its
    destination has."""

    classes: npt.NDArray[np.intp]
    odds: Probabilities
    sources: Probabilities


def suspect(flows: Flows, site: Site, fan_in: FanIn, at: Microseconds) -> Suspicion:
    """Where several hold, the one that stands last in `Class`."""
    sources = fan_in.count(flows["source"], flows["destination"], at)
    classes = np.full(len(flows), _NUMBER[Class.TRAFFIC], np.intp)
    classes[sources >= site.many] = _NUMBER[Class.FAN_IN]
    classes[spoofed(flows, site)] = _NUMBER[Class.SPOOFED_SOURCE]
    classes[site.reported.contain(flows["destination"])] = _NUMBER[Class.REPORTED]
    by_class = np.array([min(site.odds.get(each, DEFAULT), LARGEST) for each in CLASSES], "f8")
    return Suspicion(classes, by_class[classes], sources)


def spoofed(flows: Flows, site: Site) -> Mask:
    """Where the source can't be whose it says: of ours, and it comes from outside; or of others, and it goes out and
    did not come from outside (BCP 38)."""
    if not site.own or not site.external:
        return np.zeros(len(flows), bool)
    outside = np.array(sorted(site.external), "u4")
    enters, leaves = np.isin(flows["input"], outside), np.isin(flows["output"], outside)
    ours = site.own.contain(flows["source"])
    # An interface of number 0 is not told (RFC 7012 has no such; IF-MIB begins at 1).
    told = flows["input"] != 0
    found: Mask = (enters & ours) | (leaves & ~enters & told & ~ours)
    return found
