"""Authorities: keys whose one use is to sign certificates of workloads (X509-SVID) for one trust domain.

Made here with its root certificate, as an agent makes one in a folder of its own, and for the same requests: who is
certified can't tell where. What everybody may see is the trust bundle. Rotated in the same three steps: `begin` (a
second root is trusted), `switch` (it signs, and the first one's key is gone), `retire` (the first is trusted no more).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity import csr
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.root import Root, new_root, read_certificate, read_root, trust_domain_of
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.ratelock.faults import SealingError

PURPOSE = b"certificate-authority"
STEPS = ("begin", "switch", "retire")
_WHERE = "ratelock's store"


@dataclass(frozen=True)
class SealedAuthority:
    """`opened`: what is to be sealed. `bundle`: the roots that its certificates are verified by, PEM."""

    opened: bytes = field(repr=False)
    bundle: str


@dataclass(frozen=True)
class _Roots:
    """PEM: `signing` and `next` with their keys, `former` without."""

    signing: str = field(repr=False)
    next: str | None = field(default=None, repr=False)
    former: str | None = None

    def sealed(self) -> SealedAuthority:
        introduced = None if self.next is None else _root(self.next).certificate
        former = None if self.former is None else read_certificate(self.former.encode(), _WHERE)
        bundle = TrustBundle.of(_root(self.signing).certificate, introduced, former)
        return SealedAuthority(PURPOSE + b"\n" + json.dumps(vars(self)).encode(), bundle.pem())


def make(trust_domain: str, now: datetime) -> SealedAuthority:
    """Raises RequestError: no trust domain."""
    try:
        domain = TrustDomain.parse(trust_domain)
    except IdentityError as error:
        raise RequestError(error.message, error.remedy) from error
    return _Roots(new_root(domain, now).decode()).sealed()


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
    roots = _read(opened)
    if roots is None:
        return None
    root = _root(roots.signing)
    try:
        return root.sign(csr.check(csr_pem, granted), now)
    except IdentityError as error:
        raise RequestError(error.message, error.remedy) from error


def rotate(opened: bytes, step: str, now: datetime) -> SealedAuthority | None:
    """After one of STEPS. None where what was opened is a key for something else. Raises RequestError: not the next."""
    roots = _read(opened)
    if roots is None:
        return None
    match step, roots:
        case "begin", _Roots(next=None, former=None):
            domain = trust_domain_of(_root(roots.signing).certificate)
            assert domain is not None, "read_root has looked"
            return dataclasses.replace(roots, next=new_root(domain, now).decode()).sealed()
        case "switch", _Roots(next=str(introduced)):
            former = _root(roots.signing).certificate.public_bytes(Encoding.PEM).decode()
            return _Roots(introduced, None, former).sealed()
        case "retire", _Roots(former=str()):
            return _Roots(roots.signing).sealed()
    at = "begin" if roots.next else "switch" if roots.former else "retire"
    raise RequestError(f"{step} does not follow {at}", remedy="the steps are begin, switch, retire")


def _read(opened: bytes) -> _Roots | None:
    purpose, _, content = opened.partition(b"\n")
    if purpose != PURPOSE:
        return None
    try:
        return _Roots(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise SealingError("what was opened as an authority is none", remedy="restore the store") from error


def _root(pem: str) -> Root:
    try:
        return read_root(pem.encode(), _WHERE)
    except IdentityError as error:
        raise SealingError(error.message, error.remedy) from error
