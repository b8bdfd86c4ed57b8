"""The trust bundle: the roots that a workload accepts, one, or two while the authority is being rotated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import IdentityError


@dataclass(frozen=True)
class TrustBundle:
    roots: tuple[x509.Certificate, ...]

    @classmethod
    def of(cls, *roots: x509.Certificate | None) -> TrustBundle:
        """The roots given, each once, in this order."""
        return cls(tuple(dict.fromkeys(root for root in roots if root is not None)))

    @classmethod
    def parse(cls, pem: str) -> TrustBundle:
        """Raises IdentityError where there is no certificate, or something else."""
        try:
            return cls.of(*x509.load_pem_x509_certificates(pem.encode()))
        except ValueError as error:
            raise IdentityError(
                f"the trust bundle is unreadable: {error}", remedy="give it as PEM, one certificate or more"
            ) from error

    def pem(self) -> str:
        return "".join(root.public_bytes(Encoding.PEM).decode() for root in self.roots)

    def fingerprints(self) -> tuple[str, ...]:
        return tuple(fingerprint(root) for root in self.roots)

    def root_of(self, leaf: x509.Certificate, now: datetime) -> x509.Certificate:
        """The root that signed `leaf`. Raises IdentityError where none did, or where it has expired."""
        for root in self.roots:
            try:
                leaf.verify_directly_issued_by(root)
            except (ValueError, TypeError, InvalidSignature):
                continue
            if not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
                raise IdentityError(
                    f"the root that signed the certificate is valid only until {root.not_valid_after_utc:%F %T} UTC",
                    remedy="rotate the authority: jfe ca rotate",
                )
            return root
        raise IdentityError(
            "the certificate was signed by none of the roots in the trust bundle",
            remedy="enrol the workload again, or give its node the same authority",
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over DER, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()
