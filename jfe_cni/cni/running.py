"""Containers that run already, from what libcni keeps of each ADD until its DEL (libcni/api.go, cachedInfo)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jfe_cni.agent.attachment import Attachment, Container
from jfe_cni.cni.chain import PLUGIN_TYPE
from jfe_cni.cni.configuration import ANNOTATIONS, CGROUP, annotations_of, cgroup_of
from jfe_cni.cni.faults import CniError
from jfe_cni.cni.invocation import pod_of

# Results of one container are some kilobytes; annotations hold tens of them.
_BYTE_LIMIT = 4 * 1024 * 1024
_LOOPBACK = "lo"


@dataclass(frozen=True)
class Running:
    """`namespace` is the file of its network namespace."""

    container: Container
    namespace: str
    annotations: Mapping[str, str]


def running(cache: Path) -> Iterator[Running | CniError]:
    """Pods, and whatever was added through a chain with this plugin in it; an error for one that can't be understood.

    `cache`: libcni's CacheDir. Nothing where the runtime keeps nothing there. Reads files: call it on a thread."""
    for path in sorted((cache / "results").glob("*")):
        try:
            if path.stat().st_size <= _BYTE_LIMIT and (found := _running(json.loads(path.read_bytes()))):
                yield found
        except CniError as error:
            yield error
        except (OSError, ValueError, RecursionError):
            continue  # it has gone meanwhile, or is another's


def _running(value: object) -> Running | None:
    cached: Any = value
    match cached:
        case {"kind": "cniCacheV1", "containerId": str(container), "ifName": str(interface), "networkName": str(name)}:
            pass
        case _:
            return None
    arguments = {pair[0]: pair[1] for pair in cached.get("cniArgs") or [] if _is_pair(pair)}
    pod = pod_of(arguments)
    namespace = _namespace(cached, interface)
    if interface == _LOOPBACK or namespace is None or (pod is None and PLUGIN_TYPE not in types_of(cached)):
        return None
    capabilities = cached.get("capabilityArgs")
    capabilities = capabilities if isinstance(capabilities, dict) else {}
    return Running(
        Container((Attachment(name, container, interface),), pod, cgroup_of(capabilities.get(CGROUP)), ran_bare=True),
        namespace,
        annotations_of(capabilities.get(ANNOTATIONS)),
    )


def types_of(cached: Mapping[str, Any]) -> list[object]:
    """The types of the plugins through which it was added."""
    config = cached.get("config")
    value = json.loads(base64.b64decode(config)) if isinstance(config, str) else None
    plugins = value.get("plugins") if isinstance(value, dict) else None
    return [each.get("type") for each in plugins if isinstance(each, dict)] if isinstance(plugins, list) else []


def _namespace(cached: Mapping[str, Any], interface: str) -> str | None:
    """libcni 1.3 and later keep it; before, the interface that was made tells where it lies."""
    match cached:
        case {"netns": str(path)} if path:
            return path
        case {"result": {"interfaces": list(interfaces)}}:
            found = [each for each in interfaces if isinstance(each, dict) and each.get("sandbox")]
            named = [each for each in found if each.get("name") == interface] or found
            return str(named[0]["sandbox"]) if named else None
        case _:
            return None


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
