"""What decoding gives: records of one exporter, domain and template."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.decoders.templates import Columns


class Format(StrEnum):
    NETFLOW_V5 = "netflow-v5"
    NETFLOW_V9 = "netflow-v9"
    IPFIX = "ipfix"
    SFLOW = "sflow"


@dataclass(frozen=True)
class Batch:
    """`domain`: observation domain, v9's source id, v5's engine (type and id), sFlow's sub-agent. `agent`: who
    observed, as sFlow says it; else the exporter. `columns`: all that the records say; None for sFlow, and for the way
    back of records that tell of both (RFC 5103)."""

    format: Format
    exporter: Address
    agent: Address
    domain: int
    flows: Flows
    columns: Columns | None
