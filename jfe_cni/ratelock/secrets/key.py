"""Keys: made here, used here, and never seen elsewhere. A key has one algorithm, an algorithm one operation.

    ed25519         sign     RFC 8032, of the message itself (no prehash); 64 bytes
    ecdsa-p256      sign     FIPS 186-5 over SHA-256 of the message; DER, as X.509 and TLS have it
    hmac-sha256     mac      RFC 2104, FIPS 180-4; 32 bytes
    rsa-oaep-3072   decrypt  RFC 8017, section 7.1, with SHA-256 for both hash and MGF1, no label; up to 318 bytes

Nothing is put before a message, so that everybody's verifiers can check it. Hence the caller decides what is signed,
and one key for two protocols lets it make a message of the one that means something in the other: give each its own.
Who signs what is larger than a request may be, signs its digest, and its verifiers verify the digest's signature.

OAEP rather than HPKE (RFC 9180): `openssl`, WebCrypto, Java and clouds' own services all encrypt with it today.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError
from jfe_cni.ratelock.store import Operation

LONGEST_MESSAGE = 65_536
_HMAC_KEY = 32
_RSA_BITS = 3072
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class NewKey:
    """`opened`: what is to be sealed. `public`: PEM, SubjectPublicKeyInfo; None for what has no public half."""

    opened: bytes
    public: str | None


@dataclass(frozen=True)
class Algorithm:
    """`make`: a private key, DER PKCS #8, or raw. `use`: the operation, on that and the caller's bytes."""

    operation: Operation
    make: Callable[[], NewKey]
    use: Callable[[bytes, bytes], bytes]


def generate(algorithm: str) -> NewKey:
    """Takes up to a second for RSA. Raises RequestError: no such algorithm."""
    if algorithm not in ALGORITHMS:
        raise RequestError(f"no algorithm is called {algorithm[:40]!r}", remedy=f"choose {', '.join(ALGORITHMS)}")
    made = ALGORITHMS[algorithm].make()
    return NewKey(algorithm.encode() + b"\n" + made.opened, made.public)


def use(opened: bytes, operation: Operation, message: bytes) -> bytes | None:
    """The signature, MAC or plaintext; None where this key is for another operation, and where a ciphertext was not
    made for it: the one is not told from the other, nor from a key that is not there. Raises SealingError: no key."""
    name, _, private = opened.partition(b"\n")
    algorithm = ALGORITHMS.get(name.decode("ascii", errors="replace"))
    if algorithm is None:
        raise SealingError("what was opened as a key is none", remedy="remove the secret and add it anew")
    if algorithm.operation != operation:
        return None
    try:
        return algorithm.use(private, message)
    except _Unfit:
        return None


def check_message(message: bytes) -> None:
    """Raises RequestError."""
    if len(message) > LONGEST_MESSAGE:
        raise RequestError(
            f"a message of {len(message)} bytes", remedy=f"{LONGEST_MESSAGE} are the most: sign its digest"
        )


class _Unfit(Exception):
    """A ciphertext that was not made for this key."""


def _pair(key: PrivateKey) -> NewKey:
    return NewKey(
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


def _load(private: bytes) -> PrivateKey:
    try:
        # Its primes are as good as when it was made here; to prove that anew takes a tenth of a second.
        key = load_der_private_key(private, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SealingError("what was opened as a key is none", remedy="remove the secret and add it anew") from error
    assert isinstance(key, PrivateKey)
    return key


def _sign_ed25519(private: bytes, message: bytes) -> bytes:
    key = _load(private)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return key.sign(message)


def _sign_ecdsa(private: bytes, message: bytes) -> bytes:
    key = _load(private)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def _decrypt_oaep(private: bytes, ciphertext: bytes) -> bytes:
    key = _load(private)
    assert isinstance(key, rsa.RSAPrivateKey)
    try:
        return key.decrypt(ciphertext, _OAEP)
    except ValueError as error:
        raise _Unfit from error


ALGORITHMS: dict[str, Algorithm] = {
    "ed25519": Algorithm("sign", lambda: _pair(ed25519.Ed25519PrivateKey.generate()), _sign_ed25519),
    "ecdsa-p256": Algorithm("sign", lambda: _pair(ec.generate_private_key(ec.SECP256R1())), _sign_ecdsa),
    "hmac-sha256": Algorithm(
        "mac",
        lambda: NewKey(os.urandom(_HMAC_KEY), None),
        lambda private, message: hmac.digest(private, message, hashlib.sha256),
    ),
    "rsa-oaep-3072": Algorithm(
        "decrypt", lambda: _pair(rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)), _decrypt_oaep
    ),
}
