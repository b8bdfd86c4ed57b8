"""Tokens: 256 random bits that are shown once, and kept as a digest. Nothing slower than SHA-256 is needed: nobody
guesses one of 2²⁵⁶. Looking the digest up compares nothing of the token itself, byte by byte or otherwise.
"""

from __future__ import annotations

import hashlib
import re
import secrets

_PREFIX = "rl_"
_TOKEN = re.compile(r"rl_[A-Za-z0-9_-]{43}")
_SIZE = 32
DIGEST_SIZE = 32


def new_token() -> str:
    """`rl_` for scanners that look for what was published by mistake, and 43 letters."""
    return _PREFIX + secrets.token_urlsafe(_SIZE)


def digest(token: str) -> bytes | None:
    """SHA-256; None for what can't be a token."""
    return hashlib.sha256(token.encode()).digest() if _TOKEN.fullmatch(token) else None
