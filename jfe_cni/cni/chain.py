"""What a network configuration becomes when we join its chain, and when we leave it: values in, values out.

Forms as in the CNI specification 1.1.0, section 1, and as libcni reads them (libcni/conf.go): a *list* (`.conflist`)
has `plugins`, a *single* configuration (`.conf`, `.json`) is one plugin. Order of keys and of plugins is kept, and so
is every field that is unknown here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLUGIN_TYPE = "jfe"
"""`type` in a configuration, and the program's name in the runtime's folder of plugins."""

Document = dict[str, Any]


def plugin_entry(socket: Path, deadline_seconds: int) -> Document:
    """Our entry in a list. The runtime fills `runtimeConfig` for each of its capabilities."""
    return {
        "type": PLUGIN_TYPE,
        "capabilities": {"io.kubernetes.cri.pod-annotations": True, "cgroupPath": True},
        "agentSocket": str(socket),
        "deadlineSeconds": deadline_seconds,
    }


def drop_in_entry(entry: Document) -> Document:
    """The same, as a file of its own: without `cniVersion` and `name`, which libcni adds from the list."""
    return {**entry, "dropIn": True}


def is_own(plugin: object) -> bool:
    return isinstance(plugin, Mapping) and plugin.get("type") == PLUGIN_TYPE


def has_own(document: Document) -> bool:
    """Whether a list names us, or a single configuration is ours."""
    return is_own(document) or any(is_own(plugin) for plugin in inlined(document))


def inlined(document: Document) -> list[Any]:
    """The plugins of a list; none where all of them are drop-ins."""
    plugins = document.get("plugins", [])
    return plugins if isinstance(plugins, list) else []


def joined(document: Document, entry: Document) -> Document:
    """A list with `entry` in its chain: where an older one of ours stands, else last; once in any case."""
    plugins: list[Any] = []
    done = False
    for plugin in inlined(document):
        if not is_own(plugin):
            plugins.append(plugin)
        elif not done:
            plugins.append(entry)
            done = True
    if not done:
        plugins.append(entry)
    return {**document, "plugins": plugins}


def left(document: Document) -> Document | None:
    """The same without us; None where nothing else is in it, for no runtime takes an empty list."""
    if is_own(document):
        return None
    if not has_own(document):
        return document
    others = [plugin for plugin in inlined(document) if not is_own(plugin)]
    return {**document, "plugins": others} if others else None


def promoted(document: Document) -> Document:
    """A single configuration as a list of one, as libcni does it in memory (ConfListFromConf): `cniVersion` and `name`
    are the list's, and stay in the plugin's as well, since a plugin may have been written to read them there."""
    version = {"cniVersion": document["cniVersion"]} if "cniVersion" in document else {}
    return {**version, "name": document["name"], "plugins": [document]}


def names_plugin(value: object) -> bool:
    """Whether we are named anywhere in it, however deep: Multus keeps whole configurations under `delegates`."""
    if isinstance(value, Mapping):
        return is_own(value) or any(names_plugin(each) for each in value.values())
    return isinstance(value, list) and any(names_plugin(each) for each in value)


def parse(content: bytes) -> Document | None:
    """The JSON object in a file; None where a runtime, which is written in Go, would read none."""
    try:
        value = json.loads(content.decode(errors="replace"), parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def serialised(document: Document) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is out of range")
    return value


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
