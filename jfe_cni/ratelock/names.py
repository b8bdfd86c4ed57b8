"""What callers, secrets and classes may be called. No query, file or log line is made of another."""

from __future__ import annotations

import re

from jfe_cni.errors import RequestError

# Letters that mean nothing to a shell, a query, a path or a log; long enough for an e-mail address, a database key, and
# the SPIFFE ids that are in use.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,254}")
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def check_name(name: str, what: str) -> str:
    """Raises RequestError; gives the name back."""
    if not _NAME.fullmatch(name) or ".." in name or "//" in name.removeprefix("spiffe://"):
        raise RequestError(
            f"{what} can't be called {name[:40]!r}",
            remedy="use up to 255 letters, digits and . _ @ : / + -, a letter or digit first",
        )
    return name


def check_idempotency_key(key: str) -> str:
    """Raises RequestError; gives the key back."""
    if not _KEY.fullmatch(key):
        raise RequestError(
            "the idempotency key is malformed", remedy="use up to 128 letters, digits and . _ : -, as a UUID has"
        )
    return key
