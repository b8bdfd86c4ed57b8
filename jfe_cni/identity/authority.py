"""The certificate authority of a single host: a folder that only root can read, with one root or, while it is being
rotated, two.

    signing.pem   the root that signs, and its key        always
    next.pem      the root that will sign, and its key    after `begin_rotation`, until `switch`
    former.pem    the root that signed before             after `switch`, until `retire`

Each step is one rename, and a crash between two of them leaves a folder that `load` understands.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni import private_file
from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity import csr, leaf
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import CheckedRequest, Names
from jfe_cni.identity.root import Root, new_root, read_certificate, read_root, trust_domain_of
from jfe_cni.identity.spiffe import TrustDomain

Clock = Callable[[], datetime]
_SIGNING, _NEXT, _FORMER = "signing.pem", "next.pem", "former.pem"


class Phase(enum.Enum):
    SINGLE = "single"
    INTRODUCED = "introduced"
    SWITCHED = "switched"


class Authority:
    """Signs leaves for one trust domain. Make one with `open_authority`."""

    def __init__(self, folder: Path, domain: TrustDomain, clock: Clock) -> None:
        self._folder = folder
        self._domain = domain
        self._clock = clock
        self.reload()

    def reload(self) -> None:
        """Reads the folder anew: another agent that shares it may have rotated. Raises IdentityError."""
        self._signing = _read_root(self._folder / _SIGNING, self._domain)
        self._next = _read_root(self._folder / _NEXT, self._domain) if (self._folder / _NEXT).exists() else None
        former = self._folder / _FORMER
        self._former = _read_certificate(former, self._domain) if former.exists() else None

    @property
    def phase(self) -> Phase:
        if self._next is not None:
            return Phase.INTRODUCED
        return Phase.SINGLE if self._former is None else Phase.SWITCHED

    @property
    def trust_domain(self) -> TrustDomain:
        return self._domain

    @property
    def signing_root(self) -> x509.Certificate:
        return self._signing.certificate

    @property
    def bundle(self) -> TrustBundle:
        """The root that signs first, then the other one of a rotation."""
        introduced = None if self._next is None else self._next.certificate
        return TrustBundle.of(self._signing.certificate, introduced, self._former)

    def sign(self, checked: CheckedRequest) -> str:
        """The certificate for a checked request, as PEM. Raises IdentityError where the root has expired or the id
        belongs to another trust domain."""
        return self._signing.sign(checked, self._clock())

    def issue(self, names: Names) -> leaf.Leaf:
        """A new key and its certificate. Raises as `sign`."""
        key = leaf.new_key()
        # Not by way of a request: its proofs, to oneself, were more than half of what this costs.
        certificate = self._signing.certify(csr.own(key, names), self._clock())
        return leaf.own(certificate, key)

    def begin_rotation(self) -> None:
        """Makes a second root that is trusted from now on, and signs nothing yet."""
        self._require(Phase.SINGLE, "a rotation is under way already")
        private_file.put(self._folder / _NEXT, new_root(self._domain, self._clock()), replace=False)
        self.reload()

    def switch(self) -> None:
        """The second root signs from now on; the first is trusted until `retire`, and its key is gone."""
        self._require(Phase.INTRODUCED, "no second root has been introduced")
        private_file.put(self._folder / _FORMER, self._signing.certificate.public_bytes(Encoding.PEM), replace=True)
        (self._folder / _NEXT).replace(self._folder / _SIGNING)
        self.reload()

    def retire(self) -> None:
        """The former root is trusted no more."""
        self._require(Phase.SWITCHED, "no former root waits to be retired")
        (self._folder / _FORMER).unlink()
        self.reload()

    def _require(self, phase: Phase, otherwise: str) -> None:
        self.reload()
        if self.phase is not phase:
            raise RequestError(
                f"{otherwise} (the rotation is at: {self.phase.value})", remedy="the steps are begin, switch, retire"
            )


def open_authority(folder: Path, domain: TrustDomain, clock: Clock) -> Authority:
    """The authority in `folder` (0700, made where absent; with a root of its own where there is none yet).

    Raises IdentityError where others may read the folder or a file in it, and where what is there is unreadable."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_wide(folder)
    signing = folder / _SIGNING
    if not signing.exists():
        # Another agent that shares the folder may be quicker: then its root is the one.
        with contextlib.suppress(FileExistsError):
            private_file.put(signing, new_root(domain, clock()), replace=False)
    return Authority(folder, domain, clock)


def _read_root(path: Path, domain: TrustDomain) -> Root:
    _refuse_wide(path)
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise IdentityError(
            f"the authority's {path} can't be read: {error.strerror}", remedy="restore it from a backup"
        ) from error
    root = read_root(pem, str(path))
    _refuse_other_domain(root.certificate, path, domain)
    return root


def _read_certificate(path: Path, domain: TrustDomain) -> x509.Certificate:
    certificate = read_certificate(path.read_bytes(), str(path))
    _refuse_other_domain(certificate, path, domain)
    return certificate


def _refuse_other_domain(certificate: x509.Certificate, path: Path, domain: TrustDomain) -> None:
    if trust_domain_of(certificate) != domain:
        raise IdentityError(
            f"the authority in {path.parent} is for another trust domain than {domain}",
            remedy="name its trust domain in the settings, or choose another folder",
        )


def _refuse_wide(path: Path) -> None:
    """Others could read the key, or put one of theirs in its place."""
    try:
        status = path.stat()
    except OSError as error:
        raise IdentityError(
            f"the authority's {path} can't be read: {error.strerror}", remedy="restore it from a backup"
        ) from error
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        narrow = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        raise IdentityError(
            f"{path} is open to others than its owner (mode {mode:04o})",
            remedy=f"if nobody else has read it, chmod {narrow:04o} {path}; else make a new authority",
        )
    if status.st_uid != os.geteuid():
        raise IdentityError(
            f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}", remedy=f"chown it: {path}"
        )
