"""Directory entries from a file: JSON or TOML by its suffix, else one network a line.

JSON: a list of entries, or `{"entries": […]}`. TOML: `[[entries]]`. Each entry has `network`, and may have `port`,
`identity`, `cover` (covered, wished) and `excluded_ports`. Lines: `NETWORK[ PORT[ IDENTITY]]`, `-` for all ports, `#`
opens a comment.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from jfe_cni.agent.directory import FILE
from jfe_cni.agent.fields import Fields
from jfe_cni.agent.objects import DirectoryEntry
from jfe_cni.errors import RequestError

# What one frame of the control protocol holds (upgrader/control/src/frame.rs).
ENTRY_LIMIT = 100_000
_BYTE_LIMIT = 32 * 1024 * 1024


def read(path: Path) -> list[DirectoryEntry]:
    """Raises RequestError that names file and entry."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"the directory file {path} can't be read: {error.strerror}",
            remedy="mend the file; until then what it said last holds",
        ) from error
    return parse(content, path.suffix, str(path))


def parse(content: bytes, suffix: str, name: str) -> list[DirectoryEntry]:
    if len(content) > _BYTE_LIMIT:
        raise RequestError(f"{name} is larger than 32 MiB", remedy="name networks instead of single addresses")
    try:
        text = content.decode()
        match suffix:
            case ".json":
                entries = _listed(json.loads(text), name)
            case ".toml":
                entries = _listed(tomllib.loads(text), name)
            case _:
                entries = _lines(text, name)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{name} is unreadable: {error}", remedy="write entries of network, port, identity"
        ) from error
    if len(entries) > ENTRY_LIMIT:
        raise RequestError(f"{name} has more than {ENTRY_LIMIT} entries", remedy="name networks instead of addresses")
    return entries


def _listed(value: object, name: str) -> list[DirectoryEntry]:
    if isinstance(value, list):
        listed = value
    else:
        fields = Fields(value, name)
        listed = fields.elements("entries")
        fields.done()
    return [DirectoryEntry.of(Fields(each, f"entry {at} of {name}"), FILE) for at, each in enumerate(listed, 1)]


def _lines(text: str, name: str) -> list[DirectoryEntry]:
    entries = []
    for at, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            entries.append(_line(words, f"line {at} of {name}"))
    return entries


def _line(words: list[str], what: str) -> DirectoryEntry:
    if len(words) > 3:
        raise RequestError(f"{what} has more than network, port and identity", remedy="take the rest out")
    network, port, identity = (*words, "-", "-")[:3] if len(words) < 3 else words
    if port != "-" and not (port.isascii() and port.isdigit()):
        raise RequestError(f"{what}: {port!r} is no port", remedy="write a number, or - for all ports")
    fields = {
        "network": network,
        "port": None if port == "-" else int(port),
        "identity": None if identity == "-" else identity,
    }
    return DirectoryEntry.of(Fields(fields, what), FILE)
