"""A key-encryption key in an environment variable, as base64 of 32 bytes."""

from __future__ import annotations

from collections.abc import Mapping

from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.keys.local import MAKE_ONE, LocalKey, decode


def environment_key(variable: str, environment: Mapping[str, str]) -> LocalKey:
    """Raises SealingError: not set, or no key."""
    text = environment.get(variable)
    if text is None:
        raise SealingError(f"no key-encryption key: {variable} is not set", remedy=MAKE_ONE)
    return decode(text, f"the variable {variable}")
