"""Signed checkpoints of the log: number, hash and time of an entry, under Ed25519 (RFC 8032). Kept where the store's
holder can't reach, they tell a log that was computed anew, or cut off, from the one that was written. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.log import Anchor, LogVerdict, verify
from jfe_cni.ratelock.store import LogEntry

# Signed before all else, so that no signature for another purpose under the same key is one of a checkpoint.
_CONTEXT = "ratelock checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    anchor: Anchor
    signature: bytes

    def text(self) -> str:
        """One line of JSON, without its end."""
        signature = base64.b64encode(self.signature).decode()
        return json.dumps([_CONTEXT, self.anchor.number, self.anchor.at, self.anchor.hash.hex(), signature])

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Raises RequestError where it is none. The signature is not verified."""
        try:
            context, number, at, digest, signature = json.loads(text)
            if context != _CONTEXT or type(number) is not int or type(at) is not int:
                raise ValueError(context)
            return cls(Anchor(number, bytes.fromhex(digest), at), base64.b64decode(signature, validate=True))
        except (ValueError, TypeError, binascii.Error) as error:
            raise RequestError(
                f"{text[:40]!r} is no checkpoint", remedy="give a file of lines that `ratelock` wrote"
            ) from error


def _signed_text(anchor: Anchor) -> bytes:
    return json.dumps([_CONTEXT, anchor.number, anchor.at, anchor.hash.hex()], separators=(",", ":")).encode()


def sign(key: Ed25519PrivateKey, anchor: Anchor) -> Checkpoint:
    return Checkpoint(anchor, key.sign(_signed_text(anchor)))


def verified(key: Ed25519PublicKey, checkpoint: Checkpoint) -> Anchor:
    """Raises RequestError where the signature is not of this key."""
    try:
        key.verify(checkpoint.signature, _signed_text(checkpoint.anchor))
    except InvalidSignature:
        raise RequestError(
            f"the checkpoint of entry {checkpoint.anchor.number} is not signed by this key",
            remedy="verify with the public key of the ratelock that wrote it",
        ) from None
    return checkpoint.anchor


async def verify_against(
    entries: AsyncIterator[LogEntry], key: Ed25519PublicKey, checkpoints: Sequence[Checkpoint]
) -> LogVerdict:
    """The log, from its first entry on, against its chain and these checkpoints. Raises RequestError for a checkpoint
    that is not of this key."""
    return await verify(entries, [verified(key, checkpoint) for checkpoint in checkpoints])
