"""SPIFFE ids: parsed once, then known to be well formed (SPIFFE-ID standard, sections 2.1 to 2.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jfe_cni.errors import IdentityError

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
# SPIFFE-ID, section 2.4: an id is at most 2048 bytes long.
_ID_LIMIT = 2048


@dataclass(frozen=True, order=True)
class TrustDomain:
    name: str

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """`jfe.local`; lower case letters, digits, dots, hyphens, underscores. Raises IdentityError."""
        if not _TRUST_DOMAIN.fullmatch(text):
            raise IdentityError(
                f"{text!r} is no trust domain", remedy="use up to 255 of a-z, 0-9, dot, hyphen and underscore"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True)
class SpiffeId:
    domain: TrustDomain
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """`spiffe://DOMAIN/SEGMENT/…`, at least one segment. Raises IdentityError."""
        if not text.startswith("spiffe://"):
            raise IdentityError(f"{text!r} is no SPIFFE id", remedy="write spiffe://DOMAIN/PATH")
        domain, *path = text.removeprefix("spiffe://").split("/")
        return cls(TrustDomain.parse(domain), _path(path, text))

    def __str__(self) -> str:
        return f"spiffe://{self.domain}/{'/'.join(self.path)}"


def host_unit(domain: TrustDomain, node: str, unit: str) -> SpiffeId:
    """A systemd unit. A template's instance (`getty@tty1.service`) and escapes have letters that no path takes."""
    return _build(domain, "host", node, "unit", unit)


def host_run(domain: TrustDomain, node: str, name: str) -> SpiffeId:
    """One command under `jfe run`, or a cgroup enrolled by path."""
    return _build(domain, "host", node, "run", name)


def host_namespace(domain: TrustDomain, node: str, name: str) -> SpiffeId:
    """A network namespace enrolled by path or process."""
    return _build(domain, "host", node, "namespace", name)


def docker(domain: TrustDomain, network: str, container: str) -> SpiffeId:
    return _build(domain, "docker", network, container)


def pod(domain: TrustDomain, namespace: str, name: str) -> SpiffeId:
    """A pod whose service account is not known here: no runtime tells it to a CNI plugin."""
    return _build(domain, "ns", namespace, "pod", name)


def kube(domain: TrustDomain, namespace: str, service_account: str) -> SpiffeId:
    return _build(domain, "ns", namespace, "sa", service_account)


def _build(domain: TrustDomain, *path: str) -> SpiffeId:
    return SpiffeId(domain, _path([_legible(segment) for segment in path], "/".join(path)))


def _legible(name: str) -> str:
    """A name with each letter that a path segment does not take written as `_HEX_`: one to one, so that two names
    never share an identity. An underscore stays, unless it would open what reads as such an escape."""
    escaped = re.sub(r"_(?=[0-9a-f]+(_|[^A-Za-z0-9._-]))", "_5f_", name)
    return re.sub(r"[^A-Za-z0-9._-]", lambda letter: f"_{ord(letter[0]):x}_", escaped)


def _path(segments: list[str], whole: str) -> tuple[str, ...]:
    unfit = [segment for segment in segments if not _SEGMENT.fullmatch(segment) or segment in (".", "..")]
    if not segments or unfit or sum(len(segment) + 1 for segment in segments) + 265 > _ID_LIMIT:
        raise IdentityError(
            f"{whole!r} has no path that a SPIFFE id may have",
            remedy="use segments of letters, digits, dot, hyphen and underscore, none of them empty, . or ..",
        )
    return tuple(segments)
