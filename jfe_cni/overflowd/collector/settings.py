"""What collecting and choosing are set by. With what delivery is set by it is `overflowd.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.selection.fan_in import MOST_TOLD
from jfe_cni.settings_list import about, flag_of

ANY = "any"


@dataclass(frozen=True)
class CollectorSettings:
    netflow: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "ADDRESS:PORT that NetFlow comes to, or :PORT; the three differ in name alone, each takes all formats",
            reason="none: one of the three is needed; exporters send to 2055",
        ),
    )
    ipfix: tuple[str, ...] = field(
        default=(), metadata=about("ADDRESS:PORT that IPFIX comes to", reason="none; exporters send to 4739")
    )
    sflow: tuple[str, ...] = field(
        default=(), metadata=about("ADDRESS:PORT that sFlow comes to", reason="none; agents send to 6343")
    )
    share_ports: bool = field(
        default=False,
        metadata=about(
            "Whether other collectors of this host have the same ports, and each its part of the exporters",
            reason="one collector is enough for most, and a second by mistake is noticed",
        ),
    )
    exporters: tuple[str, ...] = field(
        default=(),
        metadata=about(
            f"Networks of the exporters that are heard, or `{ANY}`",
            reason="any in a dry run; with --send they must be named, for anybody can claim a flow",
        ),
    )
    most_domains: int = field(
        default=4_096,
        metadata=about("Observation domains of all exporters that are remembered", reason="a forger could make more"),
    )
    most_templates: int = field(default=256, metadata=about("Templates of each of them", reason="routers have a dozen"))
    most_fields: int = field(
        default=500_000,
        metadata=about(
            "Fields of all templates that are remembered, each template with six more; a sampler counts as one",
            reason="100 MB; a busy site has some thousands",
        ),
    )
    most_waiting: int = field(
        default=67_108_864,
        metadata=about(
            "Data that wait for their templates, each piece with 256 bytes that it takes beside",
            unit="bytes",
            reason="minutes of a busy router",
        ),
    )
    tunnels: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Networks that the site's own tunnels begin and end in; in sFlow, what is inside them is the flow",
            reason="none: a tunnel of others is the flow that was carried",
        ),
    )
    odds: float = field(
        default=1e-6,
        metadata=about("The odds of each packet, up to 0.01; tenfold at a fan-in, a hundredfold of what is forged or "
                       "reported", reason="of 2016"),
    )  # fmt: skip
    seed: int = field(
        default=0, metadata=about("Draw the same each time", reason="0: nobody who sends may know what is drawn")
    )
    count_at: Literal["everywhere", "border"] = field(
        default="everywhere",
        metadata=about(
            "Where a packet counts that several routers see: `everywhere`, what the others tell is found and left out; "
            "`border`, at the interfaces of --external alone",
            reason="it needs to know nothing; `border` is exact",
        ),
    )
    duplicate_window: float = field(
        default=300.0,
        metadata=about(
            "How long after one router another may tell of the same packets",
            unit="s",
            reason="longer than routers hold a slice of a flow back",
        ),
    )
    inside: tuple[str, ...] = field(
        default=(),
        metadata=about("Networks that are inside: the site's own and its customers'", reason="none: not known"),
    )
    external: tuple[str, ...] = field(
        default=(),
        metadata=about("Interfaces that lead to other networks: NUMBER, or NUMBER@EXPORTER", reason="none: not known"),
    )
    transit: bool = field(
        default=False,
        metadata=about(
            "Whether others' traffic is carried between the site's routers",
            reason="then what leaves with a stranger's source is forged",
        ),
    )
    routes: Path | None = field(
        default=None,
        metadata=about("File of lines PREFIX INTERFACE …: by which interfaces a network's packets may come",
                       reason="none: no reverse path is looked at"),
    )  # fmt: skip
    reported: tuple[str, ...] = field(
        default=(), metadata=about("Destinations that are told of a hundredfold, by hand", reason="none")
    )
    fan_in: int = field(
        default=200,
        metadata=about(
            "Sources of one destination within two minutes from which on it is told of tenfold",
            unit="sources",
            reason="more than a quiet server has; 1,064 can be told",
        ),
    )
    contact: str = field(
        default="", metadata=about("Who answers for the notices: an address of mail", reason="none; --send needs one")
    )
    organisation: str = field(default="", metadata=about("Whose notices they are", reason="none"))
    autonomous_system: int = field(default=0, metadata=about("Its AS number", reason="0: none"))
    keys_url: str = field(
        default="",
        metadata=about(
            "Where the keys are looked up: https://DOMAIN/.well-known/overflowd/keys.json",
            reason="none; --send needs one",
        ),
    )
    key_file: Path = field(
        default=Path("/var/lib/overflowd/keys.json"),
        metadata=about("The keys that sign (0600), made where there are none", reason="beside the state"),
    )
    listen: str = field(
        default="",
        metadata=about(
            "ADDRESS:PORT, or :PORT, for /healthz, /readyz, /metrics and the published keys, in plain HTTP",
            reason="none; the web server of the domain passes the keys' path on",
        ),
    )
    stop_timeout: float = field(
        default=8.0,
        metadata=about(
            "How long what waits in the sockets at SIGTERM may take to be read, and to be put into the outbox",
            unit="s",
            reason="with --delivery-timeout below Kubernetes' 30",
        ),
    )
    log_format: Literal["json", "text"] = field(
        default="json", metadata=about("The form of log lines on standard error", reason="machines")
    )

    def __post_init__(self) -> None:
        if not 0 < self.odds <= 1e-2:
            raise RequestError("--odds must be above 0, and 0.01 at most", "leave it out for one in a million")
        if self.count_at == "border" and not self.external:
            raise RequestError("--count-at border needs the border", "name its interfaces with --external")
        if not 0 <= self.autonomous_system < 1 << 32 or not 0 <= self.seed < 1 << 64:
            raise RequestError("--autonomous-system has 32 bits, --seed 64", "leave them out where there are none")
        if self.fan_in > MOST_TOLD:
            raise RequestError(f"--fan-in must be {MOST_TOLD:,} at most", "no more sources can be told apart")
        for name in (
            "most_domains",
            "most_templates",
            "most_fields",
            "most_waiting",
            "duplicate_window",
            "fan_in",
            "stop_timeout",
        ):
            if not 0 < getattr(self, name) <= 1_000_000_000:
                raise RequestError(f"{flag_of(name)} must be above 0", "leave it out for the default")
