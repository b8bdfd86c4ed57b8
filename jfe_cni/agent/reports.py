"""What the agent's API answers: the states of workloads, connections, rules and the authority, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decision = Literal["upgrade", "pass_through", "refuse"]


@dataclass(frozen=True)
class Bare:
    """A connection that was open at enrolment and goes on without cover: addresses and ports of both ends."""

    local_address: str
    local_port: int
    peer_address: str
    peer_port: int


@dataclass(frozen=True)
class PassedReport:
    """What no cover is for. `way`: sent, received. `protocol`: udp, sctp, icmp, other. Bytes from the IP header on."""

    way: str
    protocol: str
    packets: int
    bytes: int


@dataclass(frozen=True)
class AttachmentReport:
    """A container's interface in a network of its runtime."""

    network: str
    container: str
    interface: str


@dataclass(frozen=True)
class PodReport:
    """`uid` is empty where the runtime does not tell it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class WorkloadReport:
    """`state`: see `jfe_cni.agent.workload.State`. Times are seconds since the epoch. `cgroup`: of a host workload, and
    of a pod where its runtime names it. `ran_bare`: it had run before it was enrolled, and bare."""

    id: str
    shape: str
    mode: str
    state: str
    identity: str
    target_kind: str
    target: str
    addresses: tuple[str, ...]
    outbound_port: int | None
    inbound_port: int | None
    ipv6: bool
    certificate_expires: float | None
    rules_whole: bool
    bare: tuple[Bare, ...]
    # Since this agent has started.
    passed: tuple[PassedReport, ...]
    # Programs in the workload that could step round the rules, by capability: NET_RAW, NET_ADMIN.
    hazards: tuple[str, ...]
    attachments: tuple[AttachmentReport, ...]
    pod: PodReport | None
    cgroup: str | None
    ran_bare: bool
    trouble: str | None


@dataclass(frozen=True)
class RunningReport:
    """Containers that ran before they could be enrolled, by id; `failed` says why, a sentence each."""

    enrolled: tuple[str, ...]
    let_through: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class StatusReport:
    node: str
    version: str
    trust_domain: str
    agent_pid: int
    upgrader_pid: int | None
    upgrader_connected: bool
    upgrader_restarts: int
    rules_proven: bool
    workloads: tuple[WorkloadReport, ...]
    directory_entries: int
    authority_expires: float | None
    troubles: tuple[str, ...]


@dataclass(frozen=True)
class CarriedReport:
    """Packets and octets, from the IP header on, between the workload's node and its peer."""

    packets_sent: int
    packets_received: int
    octets_sent: int
    octets_received: int


@dataclass(frozen=True)
class ConnectionReport:
    """As the upgrader's `connection` event; addresses are `ADDRESS:PORT` or `[ADDRESS]:PORT`. `phase`: open, decided,
    closed. `bytes_sent`: plaintext from the workload to its peer. `dialled_from`: the upgrader's own socket towards the
    peer (outbound) or the application. An older upgrader tells neither this nor `carried`."""

    number: int
    phase: str
    workload: str
    direction: str
    source: str
    destination: str
    decision: str | None
    reason: str | None
    peer: str | None
    tls_version: str | None
    cipher: str | None
    key_exchange: str | None
    bytes_sent: int
    bytes_received: int
    handshake_microseconds: int | None
    dialled_from: str | None = None
    carried: CarriedReport | None = None


@dataclass(frozen=True)
class RulesReport:
    """`wanted` is the ruleset as nft text; `missing` tells, a line each, what of it the kernel lacks or has changed."""

    name: str
    workloads: tuple[str, ...]
    wanted: str
    whole: bool
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ExplainReport:
    """What would happen to a connection of `workload` to `destination`. `reason` is a word of the closed list;
    `because` says in a sentence what led to it; `entry` is the directory's entry that decided, as text."""

    workload: str
    destination: str
    decision: Decision
    reason: str
    encrypted: bool
    peer: str | None
    entry: str | None
    because: str


@dataclass(frozen=True)
class RootReport:
    fingerprint: str
    subject: str
    not_before: float
    not_after: float
    signs: bool


@dataclass(frozen=True)
class AuthorityReport:
    """`phase` of a rotation: `single` (one root), `introduced` (a second is trusted), `switched` (the second signs);
    `remote`: its key is in ratelock, and so is its rotation."""

    trust_domain: str
    phase: str
    roots: tuple[RootReport, ...]
    trust_bundle: str


@dataclass(frozen=True)
class DirectoryReport:
    network: str
    port: int | None
    identity: str | None
    cover: str
    excluded_ports: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class CniCallsReport:
    """Names of the networks for which the runtime has called since the agent's start: by a drop-in, by the list."""

    drop_in: tuple[str, ...]
    inline: tuple[str, ...]
