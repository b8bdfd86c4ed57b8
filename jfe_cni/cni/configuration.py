"""The network configuration that a plugin gets on its standard input, as far as this plugin reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from jfe_cni.cni.faults import INCOMPATIBLE_VERSION, INVALID_CONFIGURATION, UNDECODABLE, CniError
from jfe_cni.cni.versions import SUPPORTED

# The capabilities under which runtimes pass a pod's annotations (containerd, CRI-O) and its cgroup (containerd).
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
CGROUP = "cgroupPath"
# CNI SPEC 1.1, GC; the second is what the specification called it at first, and libcni writes both.
VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")


@dataclass(frozen=True)
class Configuration:
    """`previous`: prevResult as it is passed on, None where there is none. `valid`: (container, interface) of each
    attachment that GC leaves; None where none is said. `drop_in`: it came by the network's own folder."""

    version: str
    network: str
    previous: bytes | None
    annotations: Mapping[str, str]
    cgroup: str | None
    valid: frozenset[tuple[str, str]] | None
    drop_in: bool


def version_of(text: bytes) -> str | None:
    """What the text says of its version, be the rest as it may."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = value.get("cniVersion") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def configuration_of(text: bytes, command: str) -> Configuration:
    """Raises CniError. DEL reads leniently: what was added under another version, or by another text, is deleted."""
    lenient = command == "DEL"
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        # Before anything is done: what can't be passed on is told while nothing is to be undone.
        previous = _passed_on(value)
    except (ValueError, RecursionError) as error:
        if not lenient:
            raise CniError(
                UNDECODABLE, f"the network configuration is not JSON: {error}", "see the CNI SPEC"
            ) from error
        value, previous = {}, None
    if not isinstance(value, dict):
        if not lenient:
            raise CniError(UNDECODABLE, "the network configuration is not a JSON object", "see the CNI SPEC")
        value = {}
    version = value.get("cniVersion")
    if not lenient and version not in SUPPORTED:
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"cniVersion {_shown(version)} is not spoken here",
            f"write one of {', '.join(SUPPORTED)}",
        )
    runtime = value.get("runtimeConfig")
    runtime = runtime if isinstance(runtime, dict) else {}
    if not isinstance(value.get("prevResult"), dict | None) and not lenient:
        raise CniError(INVALID_CONFIGURATION, "prevResult is not an object", "pass the result of the plugin before")
    if command == "CHECK" and previous is None:
        raise CniError(INVALID_CONFIGURATION, "CHECK came without prevResult", "pass the result of ADD (CNI SPEC)")
    return Configuration(
        version=version if isinstance(version, str) else SUPPORTED[0],
        network=value["name"] if isinstance(value.get("name"), str) else "",
        previous=previous,
        annotations={} if lenient else annotations_of(runtime.get(ANNOTATIONS)),
        cgroup=cgroup_of(runtime.get(CGROUP)),
        valid=next((_valid(value[name]) for name in VALID_ATTACHMENTS if name in value), None),
        drop_in=value.get("dropIn") is True,
    )


def annotations_of(value: object) -> dict[str, str]:
    """Empty where the runtime passes none: null, or not at all."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise CniError(
            INVALID_CONFIGURATION, f"runtimeConfig's {ANNOTATIONS} is no object of texts", "see the runtime's manual"
        )
    return dict(value)


def cgroup_of(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _valid(value: object) -> frozenset[tuple[str, str]]:
    if value is None:
        # As Go writes a list without elements that was never made.
        return frozenset()
    found: set[tuple[str, str]] = set()
    for each in value if isinstance(value, list) else [None]:
        container, interface = (each.get("containerID"), each.get("ifname")) if isinstance(each, dict) else (None, None)
        if not isinstance(container, str) or not isinstance(interface, str):
            # Half read it would have the others collected.
            raise CniError(
                INVALID_CONFIGURATION,
                f"{VALID_ATTACHMENTS[0]} is not a list of containerID and ifname",
                "see the CNI SPEC",
            )
        found.add((container, interface))
    return frozenset(found)


def _passed_on(value: object) -> bytes | None:
    match value:
        case {"prevResult": dict(result)}:
            return json.dumps(result).encode()
        case _:
            return None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        # It could not be passed on unchanged.
        raise ValueError(f"{text[:20]} is beyond any number")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _shown(version: object) -> str:
    return (
        repr(version[:40]) if isinstance(version, str) else "that is absent" if version is None else "that is no text"
    )
