"""Records: named fields of text, released one by one: a card's number, a patient's diagnosis."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError

MOST_FIELDS = 256
# Bytes of a record as it is sealed: an item of DynamoDB has 400 KiB, and what is sealed is a little longer.
LARGEST = 262_144
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")


def encode(fields: Mapping[str, str]) -> bytes:
    """What is sealed. Raises RequestError: a field's name, too many of them, too much, or no text."""
    check_fields(list(fields))
    try:
        record = json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            "a field's value has half a surrogate pair, which is no text", remedy="encode what is not text in base64"
        ) from error
    if len(record) > LARGEST:
        raise RequestError(f"a record of {len(record)} bytes", remedy=f"{LARGEST} bytes are the most: make several")
    return record


def release(record: bytes, fields: Sequence[str]) -> dict[str, str]:
    """Those of `fields` that there are. What is not there is left out, as all is for a name that nobody has: an answer
    tells no more of the record than was asked for by name. Raises SealingError: no record."""
    try:
        stored = json.loads(record)
    except ValueError as error:
        raise _not_a_record() from error
    if not isinstance(stored, dict):
        raise _not_a_record()
    return {field: str(stored[field]) for field in fields if field in stored}


def check_fields(fields: Sequence[str]) -> None:
    """Raises RequestError."""
    if not 1 <= len(fields) <= MOST_FIELDS:
        raise RequestError(f"{len(fields)} fields of a record", remedy=f"name 1 to {MOST_FIELDS}")
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise RequestError(
                f"a field can't be called {field[:40]!r}",
                remedy="use up to 128 letters, digits and . _ @ : / + -, a letter or digit first",
            )


def _not_a_record() -> SealingError:
    return SealingError("what was opened as a record is none", remedy="remove the secret and add it anew")
