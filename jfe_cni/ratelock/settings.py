"""The settings of `ratelock serve`: one list, of which flags, RATELOCK_* of the environment, a TOML file and the table
of docs/ratelock.md are made. A flag goes before the environment, the environment before the file.

What else is called RATELOCK_ is left alone: for a service named `ratelock` Kubernetes sets RATELOCK_PORT,
RATELOCK_SERVICE_HOST and more, so that no setting may have such a name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jfe_cni.errors import RequestError

PREFIX = "RATELOCK_"


def _about(what: str, *, reason: str, unit: str = "") -> Mapping[str, str]:
    return {"what": what, "unit": unit, "reason": reason}


@dataclass(frozen=True)
class Settings:
    store: str = field(
        default="sqlite:////var/lib/ratelock/store.db",
        metadata=_about(
            "The store: sqlite:///PATH, postgresql://…, dynamodb://TABLE?region=…",
            reason="needs nothing else; several replicas need PostgreSQL or DynamoDB",
        ),
    )
    trusted_absence: float = field(
        default=86_400.0,
        metadata=_about(
            "How much of the time between two boots SQLite's store believes the wall clock; 0: nothing",
            unit="s",
            reason="a day is as much as one boot with a clock set forward gives away",
        ),
    )
    key: str = field(
        default="file:/var/lib/ratelock/key",
        metadata=_about(
            "The key-encryption key: file:PATH, environment:NAME, kms:KEY, vault:KEY",
            reason="a file apart from the store, so that a stolen store is not enough",
        ),
    )
    former_keys: str = field(
        default="",
        metadata=_about(
            "Key-encryption keys that open and do not seal, with commas between: while keys are rotated",
            reason="none: no rotation is under way",
        ),
    )
    walliam: str = field(
        default="",
        metadata=_about(
            "A region of AWS, where passwords that are added become IAM users and are checked by logging in",
            reason="none: they are kept in the store; an account has 5,000 users at most",
        ),
    )
    password_memory: int = field(
        default=65_536, metadata=_about("Argon2id's memory", unit="KiB", reason="RFC 9106, 4, second recommendation")
    )
    password_iterations: int = field(
        default=3, metadata=_about("Argon2id's passes; the same for all replicas", unit="passes", reason="as above")
    )
    password_lanes: int = field(default=4, metadata=_about("Argon2id's lanes", unit="lanes", reason="as above"))
    password_threads: int = field(
        default=2,
        metadata=_about("Passwords hashed at once", unit="threads", reason="128 MiB of memory; at most the CPUs"),
    )
    password_waiting: int = field(
        default=64, metadata=_about("Checks that wait for a thread", unit="checks", reason="a few seconds' worth")
    )
    listen: str = field(
        default="127.0.0.1:8750",
        metadata=_about(
            "Where the API is served: HOST:PORT, or unix:PATH (0600)",
            reason="nobody else's wire before there are certificates",
        ),
    )
    metrics_listen: str = field(
        default="",
        metadata=_about(
            "HOST:PORT for /healthz, /readyz and /metrics alone, in plain HTTP",
            reason="none: they are served beside the API, metrics to owners; a kubelet's probe has no certificate",
        ),
    )
    tls_certificate: Path | None = field(
        default=None,
        metadata=_about(
            "PEM file of the server's certificates, leaf first; read again when it changes", reason="none: plain HTTP"
        ),
    )
    tls_key: Path | None = field(default=None, metadata=_about("PEM file of the certificate's key", reason="as above"))
    client_ca: Path | None = field(
        default=None,
        metadata=_about("PEM file of the roots that callers' certificates must come from", reason="none: tokens only"),
    )
    client_certificates: Literal["required", "optional"] = field(
        default="required",
        metadata=_about("Whether a caller may come without a certificate", reason="strangers get no further than TLS"),
    )
    identities: Path | None = field(
        default=None,
        metadata=_about(
            "TOML file of SPIFFE ids that are owners or callers, and their scopes", reason="none: tokens only"
        ),
    )
    tell_budget: bool = field(
        default=True,
        metadata=_about(
            "Whether a caller is told that a budget is spent; false: it is answered like a wrong password",
            reason="who is told when to come again doesn't hammer; the attacker learns what it could measure",
        ),
    )
    body_limit: int = field(
        default=65_536,
        metadata=_about(
            "The longest body", unit="bytes", reason="the longest record; what is longer is refused unread"
        ),
    )
    request_timeout: float = field(
        default=30.0,
        metadata=_about(
            "How long a request may take to arrive, and to be answered", unit="s", reason="several times Argon2id's"
        ),
    )
    keep_alive_timeout: int = field(
        default=75,
        metadata=_about(
            "How long an idle connection is kept", unit="s", reason="longer than a load balancer's usual 60"
        ),
    )
    stop_timeout: int = field(
        default=20,
        metadata=_about(
            "How long requests that run at SIGTERM may take to end", unit="s", reason="below Kubernetes' grace of 30"
        ),
    )
    most_requests: int = field(
        default=1024,
        metadata=_about(
            "Requests served at once", unit="requests", reason="more wait for the store anyway; they get 503"
        ),
    )
    log_format: Literal["json", "text"] = field(
        default="json", metadata=_about("The form of log lines on standard error", reason="machines")
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


def read_settings(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None = None
) -> Settings:
    """`flags`: by field name, None where not given. Raises RequestError: unknown name in the file, unfit value."""
    filed = {} if file is None else _read_file(file)
    given: dict[str, Any] = {}
    kinds = get_type_hints(Settings)
    for each in fields(Settings):
        for source, value in (
            (flag_of(each.name), flags.get(each.name)),
            (environment_name(each.name), environment.get(environment_name(each.name))),
            (f"{each.name} in {file}", filed.get(each.name)),
        ):
            if value is not None:
                given[each.name] = _converted(source, value, kinds[each.name])
                break
    return Settings(**given)


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def environment_name(name: str) -> str:
    return PREFIX + name.upper()


def settings_table() -> str:
    """What docs/ratelock.md has, as Markdown."""
    lines = ["| flag | environment | default | what | why this default |", "| --- | --- | --- | --- | --- |"]
    for each in fields(Settings):
        unit = f" {each.metadata['unit']}" if each.metadata["unit"] else ""
        lines.append(
            f"| `{flag_of(each.name)}` | `{environment_name(each.name)}` | {_default(each)}{unit} "
            f"| {each.metadata['what']} | {each.metadata['reason']} |"
        )
    return "\n".join(lines) + "\n"


def _default(each: Field[Any]) -> str:
    assert each.default is not MISSING
    if each.default is None or each.default == "":
        return "–"
    return f"`{str(each.default).lower() if isinstance(each.default, bool) else each.default}`"


def _read_file(path: Path) -> dict[str, object]:
    try:
        filed = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the settings in {path} can't be read: {error}", remedy="write TOML: name = value"
        ) from error
    known = {each.name for each in fields(Settings)}
    if unknown := sorted(filed.keys() - known):
        raise RequestError(
            f"{path} has unknown settings: {', '.join(unknown)}", remedy=f"known: {', '.join(sorted(known))}"
        )
    return filed


def _converted(source: str, value: object, kind: Any) -> object:
    """A value of a TOML file has its type already; text from elsewhere is read as the setting's."""
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise RequestError(f"{source} can't be {value!r}", remedy=f"choose one of {', '.join(get_args(kind))}")
    if kind is bool:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
        raise RequestError(f"{source} can't be {value!r}", remedy="choose true or false")
    if kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError) as error:
            raise RequestError(f"{source} can't be {value!r}", remedy="give a number") from error
    if not isinstance(value, str):
        raise RequestError(f"{source} can't be {value!r}", remedy="give a text")
    return value if kind is str else (Path(value) if value else None)
