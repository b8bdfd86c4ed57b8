"""The cipher under which every password opens to something plausible. Pure.

A secret access key is 40 letters of base64's 64 (IAM user guide, "Managing access keys"): six bits each, 240 in all,
which are exactly 30 bytes. Decoding base64 without padding takes each text of 40 letters to one string of 30 bytes, and
each string of 30 bytes comes from one such text: there is nothing else to tell them by. The keystream is as long,
Argon2id's tag of 30 bytes under a salt of its own, and is XORed on.

So each password opens to 40 letters, and nothing says which is right: no padding, for the length is exact; no MAC, for
none is made under the password; no letter that base64 has not. AWS draws the key at random. Where the key is uniform,
what is kept is uniform and independent of the password, whatever the keystream (Shannon's one-time pad, the other way
round); and what a wrong password opens to is uniform because Argon2id's tag, BLAKE2b's output, is.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.secrets.password import Cost, check_length

SIZE = 30
_SECRET_KEY = re.compile(r"[A-Za-z0-9+/]{40}")
# RFC 9106, section 4: 128 bits.
_SALT = 16
_KEPT = re.compile(
    rb"\$walliam\$v=1\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,8})"
    rb"\$([\w+=,.@-]{1,64})\$([A-Z0-9]{16,128})\$([A-Za-z0-9+/]{22})\$([A-Za-z0-9+/]{40})"
)


@dataclass(frozen=True)
class Kept:
    """`user`, `access_key_id`: IAM's names of the user and of its key, which are no secret to who may read either."""

    user: str
    access_key_id: str
    cost: Cost
    salt: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        cost = f"m={self.cost.memory},t={self.cost.iterations},p={self.cost.lanes}"
        salt, ciphertext = (base64.b64encode(each).rstrip(b"=").decode() for each in (self.salt, self.ciphertext))
        return f"$walliam$v=1${cost}${self.user}${self.access_key_id}${salt}${ciphertext}".encode()

    @classmethod
    def decode(cls, text: bytes) -> Kept:
        """Raises SealingError."""
        match = _KEPT.fullmatch(text)
        if match is None:
            raise SealingError("what was opened as a user's key is none", remedy="remove the secret and add it anew")
        memory, iterations, lanes, user, access_key_id, salt, ciphertext = match.groups()
        return cls(
            user.decode(),
            access_key_id.decode(),
            Cost(int(memory), int(iterations), int(lanes)),
            base64.b64decode(salt + b"=="),
            base64.b64decode(ciphertext),
        )


def encrypt(user: str, access_key_id: str, secret_key: str, password: bytes, pepper: bytes, cost: Cost) -> Kept:
    """`password`: 1 to 1024 bytes, or RequestError. Raises SealingError for a secret key of another shape, which would
    show through."""
    if not password:
        raise RequestError("an empty password is none", remedy="give one")
    if not _SECRET_KEY.fullmatch(secret_key):
        raise SealingError("the cloud's secret key is not of 40 letters of base64", remedy="use a cloud whose are")
    salt = os.urandom(_SALT)
    ciphertext = _xored(base64.b64decode(secret_key), _keystream(password, pepper, salt, cost))
    return Kept(user, access_key_id, cost, salt, ciphertext)


def decrypt(kept: Kept, password: bytes, pepper: bytes) -> str:
    """A secret key, whatever the password. Raises RequestError: it is too long."""
    keystream = _keystream(password, pepper, kept.salt, kept.cost)
    return binascii.b2a_base64(_xored(kept.ciphertext, keystream), newline=False).decode()


def nobodys(cost: Cost) -> Kept:
    """Of no user: to try a password on it costs what it does on a real one, the cloud's log-in included."""
    letters = base64.b32encode(os.urandom(10)).decode()
    return Kept("nobody", f"AKIA{letters}", cost, os.urandom(_SALT), os.urandom(SIZE))


def _keystream(password: bytes, pepper: bytes, salt: bytes, cost: Cost) -> bytes:
    check_length(password)
    argon2 = Argon2id(
        salt=salt,
        length=SIZE,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory,
        secret=pepper,
    )
    return argon2.derive(password)


def _xored(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))
