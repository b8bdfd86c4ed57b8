"""The agent's settings, each with unit, default and the reason for the default."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jfe_cni.agent.ca_address import CaAddress, CaCredentials
from jfe_cni.agent.objects import socket_path
from jfe_cni.errors import RequestError
from jfe_cni.rules.model import DEFAULT_MARK_BIT, DEFAULT_TABLE, Mark

DEFAULT_STATE_DIR = Path("/var/lib/jfe")
DEFAULT_SOCKET = Path("/run/jfe/agent.sock")
# upgrader/broker/src/arguments.rs: the broker starts with no more.
MOST_WORKERS = 256


def node_name() -> str:
    """This host's name, in the letters that a SPIFFE path takes."""
    name = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in socket.gethostname())
    return name.strip(".") or "node"


@dataclass(frozen=True)
class Settings:
    # Holds identities, the authority and what is enrolled; root only (0700).
    state_dir: Path = DEFAULT_STATE_DIR
    # The API's socket; its mode is 0600.
    socket: Path = DEFAULT_SOCKET
    node: str = field(default_factory=node_name)
    # Cluster-neutral: peers must share it to trust one another.
    trust_domain: str = "jfe.local"
    # The authority's folder; two agents that share it share roots. Default: STATE_DIR/authority.
    authority_dir: Path | None = None
    # An authority behind ratelock instead, and how this node is known there.
    ca: CaAddress | None = None
    ca_credentials: CaCredentials = field(default_factory=CaCredentials)
    # A JSON or TOML file of directory entries, or one network a line; looked at each second for change.
    directory_file: Path | None = None
    mark: int = DEFAULT_MARK_BIT
    table: int = DEFAULT_TABLE
    # Workers of the upgrader; None: as many as it has CPUs, up to the most that there can be.
    workers: int | None = None
    # (address, port) of a TCP endpoint for Prometheus; None: metrics on the API's socket only.
    metrics_listen: tuple[str, int] | None = None
    # (host, port) to which the node's own flows go as IPFIX over UDP; None: nowhere.
    flows_to: tuple[str, int] | None = None
    # Seconds from one slice of a long flow to the next. Each open connection costs the agent an event each time.
    flows_every: float = 30.0
    # Whether conntrack of the agent's own namespace is asked for what the upgrader does not relay; `account` sets
    # nf_conntrack_acct there.
    flows_conntrack: Literal["off", "read", "account"] = "read"
    # None: see binaries.find.
    upgrader: Path | None = None
    log_format: Literal["json", "text"] = "text"
    # One log line for each connection that ends.
    log_connections: bool = False
    # Where the authority can't be used at the start, the agent waits for it and serves what needs none; else it ends.
    wait_for_authority: bool = False
    # What SIGTERM leaves behind. keep: upgrader, rules and enrolments go on, and the next agent takes them over.
    # remove: everything is unenrolled and the upgrader ended, for an agent that lives as long as one command.
    on_exit: Literal["keep", "remove"] = "keep"

    def __post_init__(self) -> None:
        socket_path(str(self.socket))
        socket_path(str(self.upgrader_socket))
        Mark(self.mark, self.table)
        if self.ca is not None:
            if self.authority_dir is not None:
                raise RequestError("there are two authorities", remedy="give --ca or --authority-dir")
            self.ca_credentials.check(self.ca)
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise RequestError(f"{self.workers} workers can't be", remedy=f"choose 1 to {MOST_WORKERS}")
        if not 0.1 <= self.flows_every <= 3600:
            raise RequestError(f"flows can't be told every {self.flows_every} s", remedy="choose 0.1 to 3600")
        if not self.node or len(self.node) > 64 or not all(c.isalnum() or c in "-._" for c in self.node):
            raise RequestError(
                f"{self.node!r} can't be a node's name", remedy="use up to 64 letters, digits, dots and hyphens"
            )

    def workers_on(self, cpus: int) -> int:
        """How many the upgrader is started with where it has `cpus` CPUs."""
        return self.workers or min(cpus, MOST_WORKERS)

    @property
    def packet_mark(self) -> Mark:
        return Mark(self.mark, self.table)

    @property
    def upgrader_socket(self) -> Path:
        return self.state_dir / "upgrader.sock"

    @property
    def state_file(self) -> Path:
        return self.state_dir / "workloads.db"

    @property
    def former_state_file(self) -> Path:
        """An older agent's."""
        return self.state_dir / "workloads.json"

    @property
    def upgrader_log(self) -> Path:
        return self.state_dir / "upgrader.log"

    @property
    def bundle_file(self) -> Path:
        """The roots of an authority that is elsewhere."""
        return self.state_dir / "trust-bundle.json"

    @property
    def authority_folder(self) -> Path:
        return self.authority_dir if self.authority_dir is not None else self.state_dir / "authority"
