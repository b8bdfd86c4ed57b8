"""The receiver's own keys: one that signs what it asks of reporters, one that notices to it are sealed to.
Kept and guarded as a reporter's are (`notices/keys.py`), the second in a file beside the first.

Both programs of a domain publish at one place: the first file is the reporter's as well, where the domain has one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni import private_file
from jfe_cni.errors import IdentityError
from jfe_cni.overflowd.notices import keys, sealing
from jfe_cni.overflowd.notices.keys import KeyRing
from jfe_cni.overflowd.receiver.complaints import Complaints

_LARGEST_FILE = 4_096


@dataclass(frozen=True)
class OwnKeys:
    ring: KeyRing
    sealing: OKPKey

    @property
    def opening(self) -> dict[str, OKPKey]:
        """By thumbprint."""
        return {self.sealing.thumbprint(): self.sealing}

    def published(self, now: int) -> dict[str, Any]:
        """The JWK set. `now`: seconds since the epoch."""
        document = self.ring.published(now)
        return {**document, "keys": [*document["keys"], sealing.published(self.sealing)]}


class Published:
    """As they are in their file now, which `overflowd keys rotate` changes meanwhile; where it can't be read, as they
    were. For one event loop."""

    def __init__(self, path: Path, keys: OwnKeys, complaints: Complaints) -> None:
        self._path = path
        self._keys = keys
        self._complaints = complaints
        self._read_at: tuple[int, int] | None = None

    async def __call__(self, now: int) -> dict[str, Any]:
        """The JWK set. `now`: seconds since the epoch."""
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_ctime_ns)
            if stamp != self._read_at:
                # Not `read_or_make`: a file that is away for a moment is not replaced by keys that nobody knows.
                ring = await asyncio.to_thread(keys.read, self._path)
                self._keys, self._read_at = replace(self._keys, ring=ring), stamp
        except OSError as error:
            self._complaints.complain(f"the former keys are published: {self._path}: {error.strerror}")
        except IdentityError as error:
            self._complaints.complain(f"the former keys are published: {error}")
        return self._keys.published(now)


def read_or_make(path: Path) -> OwnKeys:
    """Raises IdentityError: others may read them, or they are no keys."""
    return OwnKeys(keys.read_or_make(path), _sealing_key(path.with_name(path.stem + "-sealing.json")))


def _sealing_key(path: Path) -> OKPKey:
    try:
        if not path.exists():
            document = json.dumps(sealing.new_key().as_dict(private=True)).encode()
            # Another replica on the same host may be quicker: then its key is the one.
            with contextlib.suppress(FileExistsError):
                private_file.put(path, document, replace=False)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
                raise IdentityError(f"{path} is open to others than its owner", "remove it, and a new key is made")
            key = OKPKey.import_key(json.loads(file.read(_LARGEST_FILE)))
    except OSError as error:
        raise IdentityError(f"the key in {path} can't be read: {error.strerror}", "restore the file") from error
    except (ValueError, TypeError, KeyError, RecursionError, JoseError) as error:
        raise IdentityError(f"{path} holds no key of overflowd", "remove it, and a new key is made") from error
    if not key.is_private or key.curve_name != sealing.CURVE:
        raise IdentityError(f"{path} holds no private key of {sealing.CURVE}", "remove it, and a new key is made")
    return key
