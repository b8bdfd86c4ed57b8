"""What the agent's API takes, as values: the client writes them, the daemon reads them.

Each has `as_json()` (what goes over the socket) and a classmethod `of(Fields)` that parses it back.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jfe_cni.agent.fields import Fields
from jfe_cni.errors import RequestError
from jfe_cni.rules.model import check_workload

Mode = Literal["permissive", "strict"]
Shape = Literal["namespace", "host"]
TargetKind = Literal["netns", "pid", "cgroup", "unit"]
Cover = Literal["covered", "wished"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TARGET_KINDS: tuple[TargetKind, ...] = ("netns", "pid", "cgroup", "unit")
# No more than this many elements in a list of one workload's settings or of one directory entry: each of the two goes
# to the upgrader in one frame, whose length is limited.
LIST_LIMIT = 1024
# SPIFFE-ID, section 2.4: an id is at most 2048 bytes long.
_IDENTITY_LIMIT = 2048


@dataclass(frozen=True)
class Target:
    """What is to be enrolled: `netns` a file of a network namespace, `pid` the namespace of a process, `cgroup` an
    absolute path or one below the cgroup v2 root, `unit` a systemd unit."""

    kind: TargetKind
    value: str

    @property
    def shape(self) -> Shape:
        return "namespace" if self.kind in ("netns", "pid") else "host"

    def as_json(self) -> dict[str, Any]:
        return {self.kind: self.value}

    @classmethod
    def of(cls, fields: Fields) -> Target:
        given = [(kind, value) for kind in TARGET_KINDS if (value := fields.optional_text(kind)) is not None]
        fields.done()
        if len(given) != 1:
            raise RequestError(
                f"{fields.what} names {len(given)} things to enrol, not one",
                remedy="give exactly one of netns, pid, cgroup, unit",
            )
        kind, value = given[0]
        if not value or "\0" in value or len(value) > 4096:
            raise RequestError(f"{kind} of {fields.what} is empty or too long", remedy=f"give a {kind} that exists")
        if kind == "pid" and not (value.isascii() and value.isdigit() and int(value) > 0):
            raise RequestError(f"{value!r} is not a process id", remedy="give a positive number")
        return cls(kind, value)


@dataclass(frozen=True)
class WorkloadSettings:
    """As `Settings` of the control protocol; networks are CIDR."""

    excluded_inbound_ports: tuple[int, ...] = ()
    excluded_outbound_ports: tuple[int, ...] = ()
    excluded_outbound_networks: tuple[Network, ...] = ()
    application_tls_ports: tuple[int, ...] = ()
    application_plaintext_ports: tuple[int, ...] = ()
    await_hello_ports: tuple[int, ...] = ()
    strangers_tls: bool = False
    verify_source: bool = True

    def as_json(self) -> dict[str, Any]:
        return {
            "excluded_inbound_ports": list(self.excluded_inbound_ports),
            "excluded_outbound_ports": list(self.excluded_outbound_ports),
            "excluded_outbound_networks": [str(network) for network in self.excluded_outbound_networks],
            "application_tls_ports": list(self.application_tls_ports),
            "application_plaintext_ports": list(self.application_plaintext_ports),
            "await_hello_ports": list(self.await_hello_ports),
            "strangers_tls": self.strangers_tls,
            "verify_source": self.verify_source,
        }

    @classmethod
    def of(cls, fields: Fields | None) -> WorkloadSettings:
        if fields is None:
            return cls()
        settings = cls(
            excluded_inbound_ports=fields.ports("excluded_inbound_ports", LIST_LIMIT),
            excluded_outbound_ports=fields.ports("excluded_outbound_ports", LIST_LIMIT),
            excluded_outbound_networks=tuple(
                network_of(text, fields.what) for text in fields.texts("excluded_outbound_networks", LIST_LIMIT)
            ),
            application_tls_ports=fields.ports("application_tls_ports", LIST_LIMIT),
            application_plaintext_ports=fields.ports("application_plaintext_ports", LIST_LIMIT),
            await_hello_ports=fields.ports("await_hello_ports", LIST_LIMIT),
            strangers_tls=fields.flag("strangers_tls"),
            verify_source=fields.flag("verify_source", default=True),
        )
        fields.done()
        both = set(settings.application_tls_ports) & set(settings.application_plaintext_ports)
        if both:
            raise RequestError(
                f"port {min(both)} is said both to speak TLS and not to", remedy="name it in one of the two lists only"
            )
        return settings


@dataclass(frozen=True)
class Enrolment:
    """A request to enrol. `name` becomes the workload's id (default: made from the target); `identity` its SPIFFE id
    (default: by target, see `jfe_cni.identity.spiffe`)."""

    target: Target
    mode: Mode = "permissive"
    name: str | None = None
    identity: str | None = None
    settings: WorkloadSettings = field(default_factory=WorkloadSettings)

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target.as_json(),
            "mode": self.mode,
            "name": self.name,
            "identity": self.identity,
            "settings": self.settings.as_json(),
        }

    @classmethod
    def of(cls, fields: Fields) -> Enrolment:
        target = fields.nested("target")
        if target is None:
            raise RequestError(
                f"{fields.what} names nothing to enrol", remedy="give target: netns, pid, cgroup or unit"
            )
        enrolment = cls(
            target=Target.of(target),
            mode=mode_of(fields.optional_text("mode") or "permissive"),
            name=fields.optional_text("name"),
            identity=fields.optional_text("identity"),
            settings=WorkloadSettings.of(fields.nested("settings")),
        )
        fields.done()
        if enrolment.name is not None:
            check_workload(enrolment.name)
        return enrolment


@dataclass(frozen=True)
class DirectoryEntry:
    """Who is at an address. `port` None: all; `identity` None: any of the trust domain whose certificate names the
    address dialled."""

    network: Network
    port: int | None = None
    identity: str | None = None
    cover: Cover = "covered"
    excluded_ports: tuple[int, ...] = ()
    source: str = "api"

    @property
    def key(self) -> tuple[Network, int | None]:
        return self.network, self.port

    def as_json(self) -> dict[str, Any]:
        """As the control protocol and the API have it; `source` is the API's only."""
        return {
            "network": str(self.network),
            "port": self.port,
            "identity": self.identity,
            "cover": self.cover,
            "excluded_ports": list(self.excluded_ports),
        }

    @classmethod
    def of(cls, fields: Fields, source: str) -> DirectoryEntry:
        cover = fields.optional_text("cover") or "covered"
        if cover not in ("covered", "wished"):
            raise RequestError(f"cover of {fields.what} is {cover!r}", remedy="write covered or wished")
        identity = fields.optional_text("identity")
        if identity is not None and not identity.startswith("spiffe://"):
            raise RequestError(f"identity of {fields.what} is no SPIFFE id", remedy="write spiffe://DOMAIN/PATH")
        if identity is not None and len(identity.encode()) > _IDENTITY_LIMIT:
            raise RequestError(
                f"identity of {fields.what} is longer than {_IDENTITY_LIMIT} bytes", remedy="no SPIFFE id is that long"
            )
        entry = cls(
            network=network_of(fields.text("network"), fields.what),
            port=fields.port("port"),
            identity=identity,
            cover="covered" if cover == "covered" else "wished",
            excluded_ports=fields.ports("excluded_ports", LIST_LIMIT),
            source=source,
        )
        fields.done()
        return entry


def network_of(text: str, what: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise RequestError(
            f"{what}: {error}", remedy="write a network as 10.2.0.0/16 or fd00::/64, host bits zero"
        ) from error


def mode_of(text: str) -> Mode:
    if text == "permissive":
        return "permissive"
    if text == "strict":
        return "strict"
    raise RequestError(f"{text!r} is no mode", remedy="choose permissive or strict")


def socket_path(text: str) -> Path:
    """A Unix socket's path; the kernel takes 107 bytes (unix(7))."""
    if len(text.encode()) > 107:
        raise RequestError(f"the socket path {text} is longer than 107 bytes", remedy="choose a shorter one")
    return Path(text)
