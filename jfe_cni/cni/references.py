"""What still makes a runtime call the program: the folder of configurations, and libcni's record of what it added.

libcni keeps a file for each attachment (libcni/api.go, cachedInfo): JSON, with the list by which it was added, base64,
as `config`. CRI-O deletes by that list; a program that it names and that is gone makes the pod undeletable.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from jfe_cni.cni import chain, network_folder

DEFAULT_CACHE_DIR = Path("/var/lib/cni")
"""libcni's CacheDir; the records are in `results`."""


def references(config_dir: Path, cache_dir: Path) -> tuple[Path, ...]:
    """The files that name us. Raises HostError where a folder can't be read."""
    configurations = [*network_folder.configuration_files(config_dir), *network_folder.drop_ins(config_dir)]
    found = [path for path in configurations if _names_us(path)]
    results = cache_dir / "results"
    records = sorted(results.iterdir()) if results.is_dir() else []
    return (*found, *(path for path in records if _added_by_us(path)))


def _names_us(path: Path) -> bool:
    content = network_folder.read_file(path)
    if content is None:
        return False
    document = chain.parse(content)
    # In doubt it does: one that can't be read now may be being written.
    return f'"{chain.PLUGIN_TYPE}"'.encode() in content if document is None else chain.names_plugin(document)


def _added_by_us(record: Path) -> bool:
    content = network_folder.read_file(record)
    document = None if content is None else chain.parse(content)
    if document is None:
        return False
    try:
        config = chain.parse(base64.b64decode(document.get("config", ""), validate=True))
    except (TypeError, binascii.Error):
        return False
    return config is not None and chain.names_plugin(config)
