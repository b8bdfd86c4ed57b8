"""The runtime's folder of network configurations (`/etc/cni/net.d`), read as runtimes read it.

The first in the order of their names' bytes among `*.conflist`, `*.conf` and `*.json` that is a valid network is the
pods' network: containerd (go-cni, loadFromConfDir), CRI-O (ocicni, loadNetworks). CRI-O skips what it can't read;
containerd has no network at all then, and so is not led astray by our skipping it, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.cni import chain
from jfe_cni.cni.chain import Document
from jfe_cni.errors import HostError

LIST_SUFFIX = ".conflist"
SUFFIXES = (LIST_SUFFIX, ".conf", ".json")
DROP_IN_SUFFIX = ".conf"
"""libcni's NetworkPluginConfsFromFiles takes no other."""

DROP_IN = f"zz-{chain.PLUGIN_TYPE}{DROP_IN_SUFFIX}"
"""libcni calls drop-ins in the order of their names, after those of the list: a plugin that covers comes last."""

# CNI specification, section 1; libcni (pkg/utils, ValidateNetworkName) takes no other. A name is a folder's here.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


@dataclass(frozen=True)
class NetworkFile:
    """A file that a runtime would take for a network: at least one plugin in its chain is another's."""

    path: Path
    content: bytes
    document: Document
    name: str

    @property
    def is_list(self) -> bool:
        return self.path.suffix == LIST_SUFFIX

    @property
    def takes_inline(self) -> bool:
        """Not where all of its plugins are drop-ins: those come after the list's, and we would be first."""
        return not self.is_list or bool(chain.inlined(self.document))

    @property
    def takes_drop_in(self) -> bool:
        return not _true(self.document.get("loadOnlyInlinedPlugins", False)) and bool(_NAME.fullmatch(self.name))

    @property
    def list_path(self) -> Path:
        """The file itself, or the list that a single configuration is promoted to."""
        return self.path.with_suffix(LIST_SUFFIX)


@dataclass(frozen=True)
class NetworkFolder:
    """`unsettled`: a file before the first network that can't be read and changed within the last `SETTLE_SECONDS`.
    Whoever writes it may be about to make it the first. `hollow`: names of lists that would be networks by us alone."""

    networks: tuple[NetworkFile, ...]
    unsettled: Path | None = None
    hollow: frozenset[str] = frozenset()

    @property
    def primary(self) -> NetworkFile | None:
        return self.networks[0] if self.networks else None


# A configuration that is written in place is whole again long before.
SETTLE_SECONDS = 2.0


def read(folder: Path, now: float) -> NetworkFolder:
    """`now`: seconds since the epoch. Nothing where there is no folder. Raises HostError where it can't be read."""
    networks: list[NetworkFile] = []
    unsettled: Path | None = None
    hollow: set[str] = set()
    for path in configuration_files(folder):
        content = read_file(path)
        if content is None:
            continue
        network, document = as_network(path, content), chain.parse(content)
        if network is not None:
            networks.append(network)
        elif document is not None:
            hollow.add(str(document.get("name", "")))
        elif not networks and now - _changed(path) < SETTLE_SECONDS:
            unsettled = unsettled or path
    return NetworkFolder(tuple(networks), unsettled, frozenset(hollow) - {each.name for each in networks})


def configuration_files(folder: Path) -> list[Path]:
    """What a runtime looks at, in its order. Raises HostError where the folder can't be read."""
    return sorted(
        (path for path in _entries(folder) if path.suffix in SUFFIXES and path.is_file()),
        key=lambda path: os.fsencode(path.name),
    )


def drop_ins(folder: Path) -> list[Path]:
    """Every network's drop-ins, of whichever plugin."""
    return [
        path
        for network in sorted(_entries(folder))
        if network.is_dir()
        for path in sorted(_entries(network))
        if path.suffix == DROP_IN_SUFFIX and path.is_file()
    ]


def drop_in_path(folder: Path, network: str) -> Path:
    return folder / network / DROP_IN


def as_network(path: Path, content: bytes) -> NetworkFile | None:
    """None where a runtime would see no network in it, or none but what we made."""
    document = chain.parse(content)
    if document is None:
        return None
    name = document.get("name")
    if not isinstance(name, str) or not name or not isinstance(document.get("cniVersion", ""), str):
        return None
    network = NetworkFile(path, content, document, name)
    return network if _has_others(network) else None


def _has_others(network: NetworkFile) -> bool:
    if not network.is_list:
        return _is_plugin(network.document) and not chain.is_own(network.document)
    if "plugins" in network.document:
        plugins = chain.inlined(network.document)
        return all(map(_is_plugin, plugins)) and not all(map(chain.is_own, plugins))
    return network.takes_drop_in and _any_others(drop_ins_of(network))


def drop_ins_of(network: NetworkFile) -> list[Path]:
    """Of one network, of whichever plugin."""
    return [path for path in sorted(_entries(network.path.parent / network.name)) if path.suffix == DROP_IN_SUFFIX]


def _any_others(paths: Iterable[Path]) -> bool:
    return any(
        document is not None and _is_plugin(document) and not chain.is_own(document)
        for document in (chain.parse(read_file(path) or b"") for path in paths)
    )


def _is_plugin(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != ""


def read_file(path: Path) -> bytes | None:
    """None where it is gone, or is no file. Raises HostError where it can't be read."""
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}", remedy="run as root") from error


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _true(value: object) -> bool:
    """libcni takes a boolean or its name (NetworkConfFromBytes, readBool)."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HostError(f"{folder} can't be read: {error.strerror}", remedy="run as root, or name another") from error
