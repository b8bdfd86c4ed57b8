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
from jfe_cni.cni.invocation import check_attachment, mounted, pod_of

# Results of one container are some kilobytes; annotations hold tens of them.
_BYTE_LIMIT = 4 * 1024 * 1024
_LOOPBACK = "lo"


@dataclass(frozen=True)
class Running:
    """`namespace` is the file of its network namespace; `record` libcni's, which is there until its DEL is done."""

    container: Container
    namespace: str
    annotations: Mapping[str, str]
    record: Path

    @property
    def attachment(self) -> Attachment:
        return self.container.attachments[0]


def running(cache: Path) -> Iterator[Running | CniError]:
    """Pods, and whatever was added through a chain with this plugin in it; an error for one that can't be understood.

    `cache`: libcni's CacheDir. Nothing where the runtime keeps nothing there. Reads files: call it on a thread."""
    for path in sorted((cache / "results").glob("*")):
        try:
            if path.stat().st_size <= _BYTE_LIMIT and (found := _running(json.loads(path.read_bytes()), path)):
                yield found
        except CniError as error:
            yield error
        except (OSError, ValueError, RecursionError):
            continue  # it has gone meanwhile, or is another's


def _running(value: object, path: Path) -> Running | None:
    if not isinstance(value, dict):
        return None
    match value:
        case {"kind": "cniCacheV1", "containerId": str(container), "ifName": str(interface), "networkName": str(name)}:
            attachment = Attachment(name, container, interface)
        case _:
            return None
    pod = pod_of(_arguments(value.get("cniArgs")))
    namespace = _namespace(value, interface)
    if interface == _LOOPBACK or namespace is None or (pod is None and PLUGIN_TYPE not in types_of(value)):
        return None
    check_attachment(attachment)
    capabilities = value.get("capabilityArgs")
    capabilities = capabilities if isinstance(capabilities, dict) else {}
    return Running(
        Container((attachment,), pod, cgroup_of(capabilities.get(CGROUP)), ran_bare=True),
        mounted(namespace),
        annotations_of(capabilities.get(ANNOTATIONS)),
        path,
    )


def types_of(cached: Mapping[Any, Any]) -> list[object]:
    """The types of the plugins through which it was added."""
    match cached:
        case {"config": str(config)}:
            value = json.loads(base64.b64decode(config))
        case _:
            return []
    match value:
        case {"plugins": list(plugins)}:
            return [each.get("type") for each in plugins if isinstance(each, dict)]
        case _:
            return []


def _namespace(cached: Mapping[Any, Any], interface: str) -> str | None:
    """libcni 1.3 and later keep it; before, the interface that was made tells where it lies."""
    match cached:
        case {"netns": str(path)} if path:
            return path
        case {"result": {"interfaces": list(interfaces)}}:
            found = [each for each in interfaces if isinstance(each, dict) and isinstance(each.get("sandbox"), str)]
            named = [each for each in found if each.get("name") == interface] or found
            return str(named[0]["sandbox"]) if named and named[0]["sandbox"] else None
        case _:
            return None


def _arguments(value: object) -> dict[str, str]:
    """Pairs, as libcni keeps them."""
    found: dict[str, str] = {}
    for pair in value if isinstance(value, list) else []:
        match pair:
            case [str(name), str(text)]:
                found[name] = text
    return found
