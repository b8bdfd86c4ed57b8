"""Packets counted where they pass the site's border: once each, however many of its routers see them, sampled or not.

A packet that comes in passes one external interface on its way in. One that is made inside passes one on its way out,
and none on its way in. So those count; what is seen elsewhere in the site, and what goes out having come in, does not.
Traffic that never leaves the site is not counted. Every border router must export, in one direction of each interface,
and every external interface must be named. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.selection.odds import Probabilities
from jfe_cni.overflowd.selection.suspicion import SIDES, Side, Site, Suspicion


def at_border(flows: Flows, site: Site, exporter: Sequence[Address], suspicion: Suspicion) -> Probabilities:
    """1 for each flow that counts, 0 for others. `exporter`: by all addresses that it has."""
    enters, leaves = (site.external.contain(flows[name], *exporter) for name in ("input", "output"))
    # Made inside: its source is ours, or is forged in there.
    inside = site.own.contain(flows["source"]) | (suspicion.sides == SIDES.index(Side.INSIDE))
    if not site.own:
        # Whose it is can't be told; where nothing of others' is carried through, what leaves was made inside.
        inside = np.full(len(flows), not site.transit)
    counted: Probabilities = (enters | (leaves & inside)).astype("f8")
    return counted
