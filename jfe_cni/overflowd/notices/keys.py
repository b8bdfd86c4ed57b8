"""The reporter's keys: one that signs, and former ones, whose notices are still under way, in a file for its owner
alone. What is published of them is a JWK set (RFC 7517) at `PUBLISHED`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from jfe_cni import private_file
from jfe_cni.errors import IdentityError

PUBLISHED = "/.well-known/overflowd/keys.json"
OVERLAP = 30 * 86_400
"""Seconds that a former key is published for: longer than any notice is kept waiting for."""

MOST_PUBLISHED = 8
"""One that signs and some former ones: receivers believe nobody who publishes more (`receiver/pins.py`)."""

_LARGEST_FILE = 65_536


@dataclass(frozen=True)
class KeyRing:
    """`former`: with the time (seconds since the epoch) from which each is published no more."""

    signing: OKPKey
    former: tuple[tuple[OKPKey, int], ...] = ()

    def published(self, now: int) -> dict[str, Any]:
        """The JWK set."""
        keys = [self.signing, *(key for key, until in self.former if until > now)]
        return {"keys": [_public(key) for key in keys[:MOST_PUBLISHED]]}

    def rotated(self, now: int, overlap: int = OVERLAP) -> KeyRing:
        """Of the former ones the oldest go early, where they would be too many: what they have signed is believed no
        more."""
        former = tuple((key, until) for key, until in self.former if until > now)
        return KeyRing(new_key(), ((self.signing, now + overlap), *former)[: MOST_PUBLISHED - 1])


def new_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519", private=True)


def _public(key: OKPKey) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "Ed25519"}


def read_or_make(path: Path) -> KeyRing:
    """Raises IdentityError: others may read it, or it is no key ring."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Another collector on the same host may be quicker: then its key is the one.
            with contextlib.suppress(FileExistsError):
                _put(path, KeyRing(new_key()), replace=False)
        return read(path)
    except OSError as error:
        raise IdentityError(f"the keys in {path} can't be read: {error.strerror}", "restore the file") from error


def rotate(path: Path, now: int, overlap: int = OVERLAP) -> KeyRing:
    """A new key signs from now on. Raises IdentityError."""
    ring = read_or_make(path).rotated(now, overlap)
    try:
        _put(path, ring, replace=True)
    except OSError as error:
        raise IdentityError(f"the keys in {path} can't be written: {error.strerror}", "see its folder") from error
    return ring


def read(path: Path) -> KeyRing:
    """Makes none. Raises OSError; IdentityError, as `read_or_make`."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
            raise IdentityError(f"{path} is open to others than its owner", f"chmod 0600 {path}, then rotate the key")
        raw = file.read(_LARGEST_FILE)
    try:
        document = json.loads(raw)
        former = tuple((OKPKey.import_key(each["key"]), int(each["until"])) for each in document["former"])
        ring = KeyRing(OKPKey.import_key(document["signing"]), former)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, JoseError) as error:
        raise IdentityError(f"{path} holds no keys of overflowd", "restore it, or remove it for a new key") from error
    if not ring.signing.is_private:
        raise IdentityError(f"{path} holds no private key", "restore it, or remove it for a new key")
    return ring


def _put(path: Path, ring: KeyRing, *, replace: bool) -> None:
    document = {
        "signing": ring.signing.as_dict(private=True),
        "former": [{"key": key.as_dict(private=True), "until": until} for key, until in ring.former],
    }
    private_file.put(path, json.dumps(document).encode(), replace=replace)
