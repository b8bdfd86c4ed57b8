"""What delivery is set by. With what collecting is set by it is `overflowd.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery.budgets import Wanted, read_budget
from jfe_cni.overflowd.delivery.destinations import UDP_PORT, Network, Policy
from jfe_cni.overflowd.delivery.outcomes import Way
from jfe_cni.settings_list import about, flag_of


@dataclass(frozen=True)
class DeliverySettings:
    send: bool = field(
        default=False,
        metadata=about("Send notices", reason="false: each is printed, with what would become of it"),
    )
    state: str = field(
        default="sqlite:////var/lib/overflowd/state.db",
        metadata=about(
            "The outbox and who opted out: sqlite:///PATH, or postgresql://…, which several collectors may share",
            reason="needs nothing else",
        ),
    )
    collector: str = field(
        default="",
        metadata=about("This collector's name, of no other on the same state", reason="none: the host's name"),
    )
    own: tuple[str, ...] = field(
        default=(), metadata=about("Networks that hear of it otherwise, and are sent nothing", reason="none")
    )
    told: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Networks that are sent to whatever they are: private ones, a laboratory's",
            reason="none: private, reserved and multicast addresses are nobody's who could be told",
        ),
    )
    ways: tuple[str, ...] = field(
        default=("udp", "https", "http"),
        metadata=about(
            "By which ways, in this order: udp, https, http, mail", reason="mail goes to people, and is switched on"
        ),
    )
    udp_port: int = field(default=UDP_PORT, metadata=about("Of receivers", reason="as planned in 2016"))
    https_port: int = field(default=443, metadata=about("Of receivers", reason="RFC 9110, section 4.2.2"))
    http_port: int = field(default=80, metadata=about("Of receivers", reason="RFC 9110, section 4.2.1"))
    sealing: Literal["never", "http", "always"] = field(
        default="http",
        metadata=about(
            "Where a receiver's key to seal to is looked for: nowhere, before HTTP, before UDP as well",
            reason="who is told by UDP need not have a web server",
        ),
    )
    concurrency: int = field(
        default=64,
        metadata=about(
            "Copies under way at once", unit="copies", reason="three a second where nobody answers by any way"
        ),
    )
    outbox_limit: int = field(
        default=100_000,
        metadata=about(
            "Copies that wait at most; the oldest are dropped, and counted", unit="copies", reason="100 MB of them"
        ),
    )
    retention: float = field(
        default=7.0, metadata=about("How long what became of a copy is kept", unit="days", reason="a week to ask why")
    )
    address_budget: str = field(
        default="3/10s,1000/1d",
        metadata=about("Copies to one address", reason="three in ten seconds, as in 2016: 4 kbit/s"),
    )
    prefix_budget: str = field(
        default="10/10s,5000/1d",
        metadata=about("Copies to one /24 or /48", reason="a flood goes to several addresses of a network"),
    )
    contact_budget: str = field(
        default="1/1h,10/1d", metadata=about("Mails to one abuse desk", reason="people read them")
    )
    total_budget: str = field(
        default="100/10s,100000/1d", metadata=about("Copies in all", reason="0.1 Mbit/s, were each 1,500 bytes")
    )
    budgets: str = field(
        default="sqlite:////var/lib/overflowd/budgets.db",
        metadata=about(
            "Where budgets are counted, by ratelock's library: sqlite:///PATH, postgresql://…, dynamodb://…",
            reason="needs nothing else",
        ),
    )
    ratelock: str = field(
        default="",
        metadata=about("URL of a ratelock that holds the budgets instead", reason="none: they are counted here"),
    )
    ratelock_token: Path | None = field(
        default=None,
        metadata=about("File of the token for it, which may release `overflowd/*`", reason="none: certificates"),
    )
    rdap: tuple[str, ...] = field(
        default=(),
        metadata=about("IANA's bootstrap files, ipv4.json and ipv6.json (RFC 9224)", reason="none; mail needs them"),
    )
    smtp: str = field(
        default="", metadata=about("HOST:PORT of the server that takes mail", reason="none; mail needs one")
    )
    smtp_security: Literal["starttls", "none"] = field(
        default="starttls", metadata=about("How it is spoken to", reason="none is for a server on this host")
    )
    mail_from: str = field(default="", metadata=about("The sender's mail address", reason="none; mail needs one"))
    delivery_timeout: float = field(
        default=18.0,
        metadata=about(
            "How long copies that are under way at the end may take; writing down what became of them, 2 s more",
            unit="s",
            reason="with --stop-timeout below Kubernetes' 30",
        ),
    )

    def __post_init__(self) -> None:
        parent = getattr(super(), "__post_init__", None)
        if parent is not None:
            parent()
        self.delivery_policy()
        self.delivery_ways()
        self.wanted_budgets()
        if self.state == self.budgets and not self.ratelock:
            raise RequestError("--state and --budgets are one database", "give each its own: they have other tables")
        for name in ("concurrency", "outbox_limit", "retention", "delivery_timeout"):
            if not 0 < getattr(self, name) <= 1_000_000_000:
                raise RequestError(f"{flag_of(name)} must be above 0", remedy="leave it out for the default")
        for name in ("udp_port", "https_port", "http_port"):
            if not 0 < getattr(self, name) < 1 << 16:
                raise RequestError(f"{flag_of(name)} must be from 1 to 65535", remedy="leave it out for the default")

    def delivery_ways(self) -> tuple[Way, ...]:
        """Raises RequestError."""
        unknown = [each for each in self.ways if each not in set(Way)]
        if unknown or not self.ways:
            raise RequestError(f"--ways can't be {', '.join(unknown) or 'none'}", "choose of udp, https, http, mail")
        found = tuple(dict.fromkeys(Way(each) for each in self.ways))
        if Way.MAIL in found and not (self.rdap and self.smtp and self.mail_from):
            raise RequestError("mail needs --rdap, --smtp and --mail-from", "give all three, or leave mail out")
        return found

    def delivery_policy(self) -> Policy:
        """Raises RequestError."""
        return Policy(own=_networks("own", self.own), told=_networks("told", self.told))

    def wanted_budgets(self) -> Wanted:
        """Raises RequestError."""
        return Wanted(
            address=read_budget(self.address_budget),
            prefix=read_budget(self.prefix_budget),
            contact=read_budget(self.contact_budget),
            total=read_budget(self.total_budget),
        )


def _networks(name: str, given: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(each) for each in given)
    except ValueError as error:
        raise RequestError(f"{flag_of(name)}: {error}", remedy="write networks as 192.0.2.0/24") from error
