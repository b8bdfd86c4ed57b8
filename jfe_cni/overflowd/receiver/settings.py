"""The settings of `overflowd receive`: flags, OVERFLOWD_RECEIVE_* of the environment, a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from jfe_cni.databases.engines import sql_url
from jfe_cni.errors import RequestError
from jfe_cni.http_server import host_and_port
from jfe_cni.overflowd.receiver.webhook_urls import wrong_with
from jfe_cni.settings_list import SettingsList, about, flag_of

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class ReceiverSettings:
    store: str = field(
        default="sqlite:////var/lib/overflowd/received.db",
        metadata=about(
            "Where notices are kept: sqlite:///PATH, postgresql://…, a database of its own",
            reason="needs nothing else; several replicas share PostgreSQL",
        ),
    )
    keys: Path = field(
        default=Path("/var/lib/overflowd/keys.json"),
        metadata=about(
            "Its own keys, made where there are none; the same files for all replicas, and the --key-file of "
            "`overflowd run` on the same domain",
            reason="that of `overflowd run`: a domain has one place to publish keys at",
        ),
    )
    udp: str = field(
        default="[::]:65535",
        metadata=about("ADDRESS:PORT of UDP; empty: none", reason="where reporters send to first"),
    )
    http: str = field(
        default="127.0.0.1:8760",
        metadata=about(
            "ADDRESS:PORT that takes notices by HTTP; empty: none",
            reason="behind the web server that has ports 80 and 443, for /.well-known/overflowd/",
        ),
    )
    https: str = field(
        default="",
        metadata=about("ADDRESS:PORT that takes notices by HTTPS", reason="none: a certificate is needed"),
    )
    tls_certificate: Path | None = field(
        default=None, metadata=about("PEM file of the certificates for it, leaf first", reason="as above")
    )
    tls_key: Path | None = field(default=None, metadata=about("PEM file of the certificate's key", reason="as above"))
    proxies: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Addresses whose X-Forwarded-For is believed",
            reason="none: anybody can write it; a web server before it is one",
        ),
    )
    page: str = field(
        default="127.0.0.1:8761",
        metadata=about(
            "ADDRESS:PORT of the web page, /api, /events, /metrics and health; empty: none of these",
            reason="who is attacked is nobody else's business; there is no login",
        ),
    )
    page_names: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Names that the page may be asked for by, beside addresses and localhost",
            reason="none: another's web page, whose name leads here, must not read it in a browser of ours",
        ),
    )
    own: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Networks that notices are taken for", reason="any, which is said at the start: to be given in earnest"
        ),
    )
    opt_out: bool = field(
        default=False,
        metadata=about("Whether reporters are asked to send no more", reason="who runs a receiver wants to hear"),
    )
    age: float = field(default=30.0, metadata=about("How long notices are kept", unit="days", reason="a month"))
    most: int = field(
        default=1_000_000,
        metadata=about("How many are kept", unit="notices", reason="about 1.5 GB of SQLite, 17 GB at the worst"),
    )
    source_notices: int = field(
        default=600,
        metadata=about(
            "By one network (/24, /48) in a minute; by UDP, and as many by HTTP",
            unit="messages",
            reason="ten a second: a reporter sends far fewer",
        ),
    )
    all_notices: int = field(
        default=30_000,
        metadata=about(
            "In all in a minute; by UDP, and as many by HTTP",
            unit="messages",
            reason="what one core verifies, with room",
        ),
    )
    key_networks: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Networks that keys are fetched from though they are private", reason="none: the Internet's alone"
        ),
    )
    key_ports: tuple[str, ...] = field(
        default=("443",), metadata=about("Ports that keys are fetched from", reason="HTTPS's; others in a laboratory")
    )
    key_roots: Path | None = field(
        default=None,
        metadata=about("PEM file of the roots that publishers' certificates come from", reason="none: the host's"),
    )
    repin: tuple[str, ...] = field(
        default=(),
        metadata=about("Domains whose changed keys are right", reason="none: a change is looked at by a person"),
    )
    webhooks: tuple[str, ...] = field(
        default=(), metadata=about("URLs that new floods are told to", reason="none: nobody is told")
    )
    webhook_secret: Path | None = field(
        default=None,
        metadata=about("File with the secret that signs them, 16 bytes at least", reason="none: no webhooks"),
    )

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None) or bool(self.https) > (self.tls_key is not None):
            raise RequestError("--https, --tls-certificate and --tls-key go together", remedy="give all, or none")
        if self.webhooks and self.webhook_secret is None:
            raise RequestError("webhooks are signed", remedy="give --webhook-secret")
        for name in ("age", "most", "source_notices", "all_notices"):
            if not 0 < getattr(self, name) <= 1_000_000_000:
                raise RequestError(f"{flag_of(name)} must be above 0", remedy="leave it out for the default")
        for wrong in filter(None, map(wrong_with, self.webhooks)):
            raise RequestError(f"a webhook's URL can't be asked: {wrong}", remedy="write it as https://HOST/PATH")
        for address in filter(None, (self.udp, self.http, self.https, self.page)):
            host_and_port(address)
        sql_url(self.store, "the store")
        # Each raises where it can't be read.
        _ = self.own_networks, self.networks_of_keys, self.ports_of_keys

    @property
    def own_networks(self) -> tuple[Network, ...]:
        """Raises RequestError."""
        return _networks("own", self.own)

    @property
    def names_of_page(self) -> frozenset[str]:
        """As they are compared (RFC 4343, section 3)."""
        return frozenset(name.lower().rstrip(".") for name in self.page_names)

    @property
    def networks_of_keys(self) -> tuple[Network, ...]:
        """Raises RequestError."""
        return _networks("key_networks", self.key_networks)

    @property
    def ports_of_keys(self) -> frozenset[int]:
        """Raises RequestError."""
        if any(not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) for port in self.key_ports):
            raise RequestError("--key-ports are numbers from 1 to 65535", remedy="leave it out for 443")
        return frozenset(map(int, self.key_ports))


SETTINGS = SettingsList(ReceiverSettings, "OVERFLOWD_RECEIVE_")


def _networks(name: str, given: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises RequestError."""
    try:
        return tuple(ip_network(each) for each in given)
    except ValueError as error:
        raise RequestError(f"{flag_of(name)}: {error}", remedy="write networks as 192.0.2.0/24") from error
