"""JSON of which every reader makes the same: what is signed says one thing to all who verify it."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class Ambiguous(ValueError):
    """A member that is given twice (RFC 8259, section 4), or a number that is none (section 6)."""


def read(raw: bytes) -> Any:
    """Raises Ambiguous; ValueError, RecursionError: it is no JSON."""
    return json.loads(raw, object_pairs_hook=_members, parse_constant=_refuse)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Ambiguous("a member that is given twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise Ambiguous(name)
