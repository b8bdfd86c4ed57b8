"""Authorities: keys whose one use is to sign certificates of workloads (X509-SVID) for one trust domain.

Made here with its root certificate, as an agent makes one in a folder of its own, and for the same requests: who is
certified can't tell where. What is sealed is the root as PEM, behind the word that says what it is for; what everybody
may see is the trust bundle. A rotation adds a root to either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity import csr
from jfe_cni.identity.csr import Names
from jfe_cni.identity.root import new_root, read_root
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.ratelock.faults import SealingError

PURPOSE = b"certificate-authority"


@dataclass(frozen=True)
class NewAuthority:
    """`opened`: what is to be sealed. `bundle`: the roots that its certificates are verified by, PEM."""

    opened: bytes = field(repr=False)
    bundle: str


def make(trust_domain: str, now: datetime) -> NewAuthority:
    """Raises RequestError: no trust domain."""
    try:
        domain = TrustDomain.parse(trust_domain)
    except IdentityError as error:
        raise RequestError(error.message, error.remedy) from error
    pem = new_root(domain, now)
    root = read_root(pem, "the new authority")
    return NewAuthority(PURPOSE + b"\n" + pem, root.certificate.public_bytes(Encoding.PEM).decode())


def is_bundle(public: str) -> bool:
    """Whether the public half of a key is an authority's."""
    return public.startswith("-----BEGIN CERTIFICATE-----")


def asked(csr_pem: str) -> Names:
    """What a request asks for, of which nothing is proven. Raises RequestError."""
    try:
        return csr.asked(csr_pem)
    except IdentityError as error:
        raise RequestError(error.message, error.remedy) from error


def certify(opened: bytes, csr_pem: str, granted: Names, now: datetime) -> str | None:
    """The certificate, PEM, for a request that was made by who has its key, and asks for nothing but what is granted.
    None where what was opened is a key for something else.

    Raises RequestError: another request, another trust domain, a root that has expired."""
    purpose, _, pem = opened.partition(b"\n")
    if purpose != PURPOSE:
        return None
    try:
        root = read_root(pem, "ratelock's store")
    except IdentityError as error:
        raise SealingError(error.message, error.remedy) from error
    try:
        return root.sign(csr.check(csr_pem, granted), now)
    except IdentityError as error:
        raise RequestError(error.message, error.remedy) from error
