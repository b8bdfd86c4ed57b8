"""Key-encryption keys: where they lie, and what wraps with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.keys.environment import environment_key
from jfe_cni.ratelock.keys.file import file_key
from jfe_cni.ratelock.sealing import KeyEncryptionKey


def open_key(reference: str, environment: Mapping[str, str] = os.environ) -> KeyEncryptionKey:
    """`file:PATH`, `environment:VARIABLE`, `kms:ARN` (its endpoint from AWS_ENDPOINT_URL_KMS) or `vault:MOUNT/NAME`
    (the mount `transit` where there is none). Raises RequestError: of another shape; SealingError: no key there."""
    way, _, rest = reference.partition(":")
    match way:
        case "file" if rest:
            return file_key(Path(rest))
        case "environment" if rest:
            return environment_key(rest, environment)
        case "kms" if rest:
            from jfe_cni.ratelock.keys.kms import kms_key

            return kms_key(rest, environment.get("AWS_ENDPOINT_URL_KMS"))
        case "vault" if rest:
            from jfe_cni.ratelock.keys.vault import vault_key

            mount, _, name = rest.rpartition("/")
            return vault_key(name, environment, mount or "transit")
    raise RequestError(
        f"{reference!r} names no key-encryption key",
        remedy="give file:PATH, environment:VARIABLE, kms:ARN or vault:MOUNT/NAME",
    )
