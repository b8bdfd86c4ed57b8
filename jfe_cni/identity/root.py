"""A root of trust: a key, and the self-signed certificate that names its trust domain. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from jfe_cni.errors import IdentityError
from jfe_cni.identity import leaf
from jfe_cni.identity.csr import CheckedRequest
from jfe_cni.identity.spiffe import TrustDomain

# A root is replaced by rotation, not by expiry; ten years outlive a host.
ROOT_LIFE = timedelta(days=3650)


@dataclass(frozen=True)
class Root:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, checked: CheckedRequest, now: datetime) -> str:
        """As `certify`, as PEM."""
        return self.certify(checked, now).public_bytes(Encoding.PEM).decode()

    def certify(self, checked: CheckedRequest, now: datetime) -> x509.Certificate:
        """The certificate for a checked request. Raises IdentityError where the root has expired or the id belongs to
        another trust domain."""
        domain = trust_domain_of(self.certificate)
        if checked.names.id.domain != domain:
            raise IdentityError(
                f"{checked.names.id} is of another trust domain than {domain}",
                remedy="choose an identity of this trust domain",
            )
        if not self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc:
            raise IdentityError(
                f"the authority's root is valid only from {self.certificate.not_valid_before_utc:%F %T} "
                f"to {self.certificate.not_valid_after_utc:%F %T} UTC",
                remedy="set the clock right, or rotate the authority: jfe ca rotate",
            )
        return leaf.sign(leaf.template(checked, self.certificate, now), self.key)


def trust_domain_of(certificate: x509.Certificate) -> TrustDomain | None:
    """The one that a root is for; None where it names none, or several."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = alternative.get_values_for_type(x509.UniformResourceIdentifier)
        scheme, _, domain = uri.partition("://")
        return TrustDomain.parse(domain) if scheme == "spiffe" else None
    except (ValueError, x509.ExtensionNotFound, IdentityError):
        return None


def read_root(pem: bytes, where: str) -> Root:
    """What `new_root` made. `where`: for the text of an error. Raises IdentityError."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(
            f"the authority's key in {where} is unreadable", remedy="restore it from a backup"
        ) from error
    certificate = read_certificate(pem, where)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise IdentityError(
            f"the key in {where} does not belong to the certificate beside it", remedy="restore the file from a backup"
        )
    return Root(certificate, key)


def read_certificate(pem: bytes, where: str) -> x509.Certificate:
    """A root's. Raises IdentityError where it is unreadable, or is for no trust domain."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise _unreadable(where) from error
    if trust_domain_of(certificate) is None:
        raise _unreadable(where)
    return certificate


def _unreadable(where: str) -> IdentityError:
    return IdentityError(f"the authority's certificate in {where} is unreadable", remedy="restore it from a backup")


def new_root(domain: TrustDomain, now: datetime) -> bytes:
    """Key and self-signed certificate as PEM. The subject carries a number, so that two roots differ in name too."""
    key = leaf.new_key()
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "JFE authority"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{str(domain)[:40]} {serial & 0xFFFFFFFF:08x}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - leaf.BACKDATE)
        .not_valid_after(now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        # SPIFFE X509-SVID, section 4.1: a signing certificate names its trust domain, without a path.
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return leaf.key_pem(key).encode() + certificate.public_bytes(Encoding.PEM)


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
