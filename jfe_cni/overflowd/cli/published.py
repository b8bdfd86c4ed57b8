"""The published keys, as they are in their file now: `overflowd keys rotate` changes it while a collector runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from jfe_cni.errors import IdentityError
from jfe_cni.overflowd.notices import keys
from jfe_cni.structured_log import fields


class Published:
    """`needed`: a collector that sends has signed by one; a dry run may have none, and makes none."""

    def __init__(self, path: Path, *, needed: bool) -> None:
        self._path = path
        self._needed = needed
        self._refused: str | None = None
        self._log = logging.getLogger(__name__)

    async def __call__(self) -> Mapping[str, object]:
        """The JWK set. Raises IdentityError; said once in the log, for anybody may ask."""
        try:
            found = await asyncio.to_thread(self._read)
        except IdentityError as error:
            if self._refused != error.message:
                self._log.error("keys not published", extra=fields(reason=str(error)))
            self._refused = error.message
            raise
        self._refused = None
        return found

    def _read(self) -> Mapping[str, object]:
        try:
            # Not `read_or_make`: a file that is away for a moment is not replaced by keys that nobody knows.
            return keys.read(self._path).published(int(time.time()))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._needed:
                return {"keys": []}
            raise IdentityError(f"the keys in {self._path} can't be read: {error.strerror}", "restore it") from error
