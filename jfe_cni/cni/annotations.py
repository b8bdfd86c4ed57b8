"""A pod's annotations that concern its cover: read, with an error that names the annotation, its value and what is
allowed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal, TypeVar

from jfe_cni.agent.objects import LIST_LIMIT, Network, WorkloadSettings
from jfe_cni.errors import RequestError

NamespaceMode = Literal["off", "permissive", "strict"]
# From the weakest to the strongest.
MODES: tuple[NamespaceMode, ...] = ("off", "permissive", "strict")

PREFIX = "jfe.io/"
MODE = f"{PREFIX}mode"
EXCLUDE_INBOUND_PORTS = f"{PREFIX}exclude-inbound-ports"
EXCLUDE_OUTBOUND_PORTS = f"{PREFIX}exclude-outbound-ports"
EXCLUDE_OUTBOUND_NETWORKS = f"{PREFIX}exclude-outbound-cidrs"
APPLICATION_TLS_PORTS = f"{PREFIX}app-tls-ports"

EXCLUSIONS = (EXCLUDE_INBOUND_PORTS, EXCLUDE_OUTBOUND_PORTS, EXCLUDE_OUTBOUND_NETWORKS)
KNOWN = (MODE, *EXCLUSIONS, APPLICATION_TLS_PORTS)

T = TypeVar("T")

# As much of a value as an error repeats.
_SHOWN = 100


class AnnotationError(RequestError):
    """A pod's annotation can't be taken."""

    @classmethod
    def malformed(cls, name: str, value: str, allowed: str) -> AnnotationError:
        return cls(f"annotation {name} is {value[:_SHOWN]!r}", remedy=f"allowed is {allowed}")

    @classmethod
    def weakening(cls, name: str, value: str, because: str) -> AnnotationError:
        return cls(
            f"annotation {name} is {value[:_SHOWN]!r}, which weakens the cover: {because}",
            remedy="remove it, or set allow-weaken for the namespace (label jfe.io/allow-weaken)",
        )


def mode(annotations: Mapping[str, str]) -> NamespaceMode | None:
    """None where none is asked for."""
    value = annotations.get(MODE)
    if value is None:
        return None
    for known in MODES:
        if value == known:
            return known
    raise AnnotationError.malformed(MODE, value, f"one of {', '.join(MODES)}")


def check_known(annotations: Mapping[str, str]) -> None:
    """An annotation of ours that this version does not know is an error: a misspelt one must not go unseen."""
    for name, value in annotations.items():
        if name.startswith(PREFIX) and name not in KNOWN:
            raise AnnotationError(
                f"annotation {name} ({value[:_SHOWN]!r}) is not known", remedy=f"known are {', '.join(KNOWN)}"
            )


def settings(annotations: Mapping[str, str]) -> WorkloadSettings:
    """What they say beside the mode."""
    return WorkloadSettings(
        excluded_inbound_ports=_ports(annotations, EXCLUDE_INBOUND_PORTS),
        excluded_outbound_ports=_ports(annotations, EXCLUDE_OUTBOUND_PORTS),
        excluded_outbound_networks=_networks(annotations, EXCLUDE_OUTBOUND_NETWORKS),
        application_tls_ports=_ports(annotations, APPLICATION_TLS_PORTS),
    )


def _ports(annotations: Mapping[str, str], name: str) -> tuple[int, ...]:
    value = annotations.get(name, "")
    ports: list[int] = []
    for word in _words(value):
        # At most so long: a number of thousands of digits is refused before it is read.
        if not (word.isascii() and word.isdigit() and len(word) <= 5 and 1 <= int(word) <= 65535):
            raise AnnotationError.malformed(name, value, "a list of ports from 1 to 65535, as 80,443")
        ports.append(int(word))
    return _bounded(ports, name, value)


def _networks(annotations: Mapping[str, str], name: str) -> tuple[Network, ...]:
    value = annotations.get(name, "")
    networks: list[Network] = []
    for word in _words(value):
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise AnnotationError.malformed(
                name, value, "a list of networks as 10.0.0.0/8,fd00::/8, host bits zero"
            ) from error
    return _bounded(networks, name, value)


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",")] if value.strip() else []


def _bounded(found: list[T], name: str, value: str) -> tuple[T, ...]:
    if len(found) > LIST_LIMIT:
        raise AnnotationError.malformed(name, value, f"a list of at most {LIST_LIMIT}")
    return tuple(dict.fromkeys(found))
