"""The file that says what each Kubernetes namespace asks for and allows: read when it has changed, and a copy kept for
a node that starts without it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tomllib
from pathlib import Path

from jfe_cni.agent.fields import Fields
from jfe_cni.agent.log import fields
from jfe_cni.cni.faults import TRY_AGAIN_LATER, CniError
from jfe_cni.cni.namespaces import Namespaces
from jfe_cni.errors import RequestError

# Thousands of namespaces fit.
_BYTE_LIMIT = 4 * 1024 * 1024
Stamp = tuple[int, int, int]


class NamespacesFile:
    """`path`: None means that every namespace asks for the default. `copy`: where the last good reading is kept."""

    def __init__(self, path: Path | None, copy: Path, log: logging.Logger) -> None:
        self._path = path
        self._copy = copy
        self._log = log
        # Two calls that meet a change at once must not both write the copy.
        self._looking = asyncio.Lock()
        self._read_as: Stamp | None = None
        self._known: Namespaces | None = None

    async def current(self) -> Namespaces:
        """What the file says; where it can't be read what it said last, be it to an agent before this one.

        Raises CniError (try again later) where it was never read."""
        if self._path is None:
            return Namespaces()
        async with self._looking:
            stamp = _stamp(self._path)
            if self._known is None or stamp != self._read_as:
                await asyncio.to_thread(self._look, self._path)
                self._read_as = stamp
        if self._known is None:
            raise CniError(
                TRY_AGAIN_LATER,
                f"what the namespaces ask for is not known: {self._path} can't be read",
                "write that file; see the agent's log",
            )
        return self._known

    def _look(self, path: Path) -> None:
        try:
            self._known = read(path)
        except RequestError as error:
            self._log.error("namespaces not read", extra=fields(error=str(error)))
            if self._known is None and self._copy.exists():
                self._take_copy()
            return
        self._keep(self._known)

    def _take_copy(self) -> None:
        try:
            self._known = read(self._copy)
        except RequestError as error:
            self._log.error("copy of the namespaces not read", extra=fields(error=str(error)))

    def _keep(self, namespaces: Namespaces) -> None:
        """Whole or not at all. Without it the next agent has only the file."""
        new = self._copy.with_suffix(".new")
        try:
            with new.open("w") as file:
                json.dump(namespaces.as_json(), file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._copy)
        except OSError as error:
            self._log.error("namespaces not kept", extra=fields(error=str(error)))


def read(path: Path) -> Namespaces:
    """TOML by its suffix, else JSON. Raises RequestError that names file and field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}", remedy="mend the file") from error
    if len(content) > _BYTE_LIMIT:
        raise RequestError(f"{path} is larger than 4 MiB", remedy="name only namespaces that differ from the default")
    if path.suffix != ".toml":
        return Namespaces.of(Fields.of_bytes(content, str(path)))
    try:
        value = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} is not TOML: {error}", remedy="write default, release-namespace, namespaces"
        ) from error
    return Namespaces.of(Fields(value, str(path)))


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a link is followed: a mounted ConfigMap is one
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
