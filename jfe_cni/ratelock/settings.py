"""The settings of `ratelock serve`: one list, of which flags, RATELOCK_* of the environment, a TOML file and the table
of docs/ratelock.md are made. A flag goes before the environment, the environment before the file.

What else is called RATELOCK_ is left alone: for a service named `ratelock` Kubernetes sets RATELOCK_PORT,
RATELOCK_SERVICE_HOST and more, so that no setting may have such a name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jfe_cni.errors import RequestError
from jfe_cni.settings_list import SettingsList, about, flag_of


@dataclass(frozen=True)
class Settings:
    store: str = field(
        default="sqlite:////var/lib/ratelock/store.db",
        metadata=about(
            "The store: sqlite:///PATH, postgresql://…, dynamodb://TABLE?region=…",
            reason="needs nothing else; several replicas need PostgreSQL or DynamoDB",
        ),
    )
    trusted_absence: float = field(
        default=86_400.0,
        metadata=about(
            "How much of the time between two boots SQLite's store believes the wall clock; 0: nothing",
            unit="s",
            reason="a day is as much as one boot with a clock set forward gives away",
        ),
    )
    key: str = field(
        default="file:/var/lib/ratelock/key",
        metadata=about(
            "The key-encryption key: file:PATH, environment:NAME, kms:KEY, vault:KEY",
            reason="a file apart from the store, so that a stolen store is not enough",
        ),
    )
    former_keys: str = field(
        default="",
        metadata=about(
            "Key-encryption keys that open and do not seal, with commas between: while keys are rotated",
            reason="none: no rotation is under way",
        ),
    )
    walliam: str = field(
        default="",
        metadata=about(
            "A region of AWS, where passwords that are added become IAM users and are checked by logging in",
            reason="none: they are kept in the store; an account has 5,000 users at most",
        ),
    )
    password_memory: int = field(
        default=65_536, metadata=about("Argon2id's memory", unit="KiB", reason="RFC 9106, 4, second recommendation")
    )
    password_iterations: int = field(
        default=3, metadata=about("Argon2id's passes; the same for all replicas", unit="passes", reason="as above")
    )
    password_lanes: int = field(default=4, metadata=about("Argon2id's lanes", unit="lanes", reason="as above"))
    password_threads: int = field(
        default=2,
        metadata=about("Passwords hashed at once", unit="threads", reason="128 MiB of memory; at most the CPUs"),
    )
    password_waiting: int = field(
        default=64, metadata=about("Checks that wait for a thread", unit="checks", reason="a few seconds' worth")
    )
    listen: str = field(
        default="127.0.0.1:8750",
        metadata=about(
            "Where the API is served: HOST:PORT, or unix:PATH (0600)",
            reason="nobody else's wire before there are certificates",
        ),
    )
    metrics_listen: str = field(
        default="",
        metadata=about(
            "HOST:PORT for /healthz, /readyz and /metrics alone, in plain HTTP",
            reason="none: they are served beside the API, metrics to owners; a kubelet's probe has no certificate",
        ),
    )
    tls_certificate: Path | None = field(
        default=None,
        metadata=about(
            "PEM file of the server's certificates, leaf first; read again when it changes", reason="none: plain HTTP"
        ),
    )
    tls_key: Path | None = field(default=None, metadata=about("PEM file of the certificate's key", reason="as above"))
    client_ca: Path | None = field(
        default=None,
        metadata=about("PEM file of the roots that callers' certificates must come from", reason="none: tokens only"),
    )
    client_certificates: Literal["required", "optional"] = field(
        default="required",
        metadata=about("Whether a caller may come without a certificate", reason="strangers get no further than TLS"),
    )
    identities: Path | None = field(
        default=None,
        metadata=about(
            "TOML file of SPIFFE ids that are owners or callers, and their scopes", reason="none: tokens only"
        ),
    )
    tell_budget: bool = field(
        default=True,
        metadata=about(
            "Whether a caller is told that a budget is spent; false: it is answered like a wrong password",
            reason="who is told when to come again doesn't hammer; the attacker learns what it could measure",
        ),
    )
    body_limit: int = field(
        default=65_536,
        metadata=about("The longest body", unit="bytes", reason="the longest record; what is longer is refused unread"),
    )
    request_timeout: float = field(
        default=30.0,
        metadata=about(
            "How long a request may take to arrive, and to be answered", unit="s", reason="several times Argon2id's"
        ),
    )
    keep_alive_timeout: int = field(
        default=75,
        metadata=about(
            "How long an idle connection is kept", unit="s", reason="longer than a load balancer's usual 60"
        ),
    )
    stop_timeout: int = field(
        default=20,
        metadata=about(
            "How long requests that run at SIGTERM may take to end", unit="s", reason="below Kubernetes' grace of 30"
        ),
    )
    most_requests: int = field(
        default=1024,
        metadata=about(
            "Requests served at once", unit="requests", reason="more wait for the store anyway; they get 503"
        ),
    )
    log_format: Literal["json", "text"] = field(
        default="json", metadata=about("The form of log lines on standard error", reason="machines")
    )

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise RequestError("tls-certificate and tls-key go together", remedy="give both, or neither")
        if self.client_ca is not None and self.tls_certificate is None:
            raise RequestError("client-ca asks for certificates without TLS", remedy="give tls-certificate and tls-key")
        if not 0 <= self.trusted_absence <= 1_000_000_000:
            raise RequestError(
                "--trusted-absence must be from 0 to 1,000,000,000", remedy="leave it out for the default"
            )
        for name in (
            "password_memory", "password_iterations", "password_lanes", "password_threads", "password_waiting",
            "body_limit", "request_timeout", "keep_alive_timeout", "stop_timeout", "most_requests",
        ):  # fmt: skip
            if not 0 < getattr(self, name) <= 1_000_000_000:
                raise RequestError(f"{flag_of(name)} must be above 0", remedy="leave it out for the default")


SETTINGS = SettingsList(Settings, "RATELOCK_")
