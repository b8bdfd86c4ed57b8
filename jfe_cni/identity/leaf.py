"""A workload's certificate and key: an X.509-SVID (SPIFFE X509-SVID, section 4) that also names its addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jfe_cni.errors import IdentityError
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import CheckedRequest

# Long enough that an authority may be away for a night (renewal is due after 8 hours, 4 are left), short enough that
# there is no need for revocation.
LIFE = timedelta(hours=12)
# Peers whose clock is a little behind still take a certificate made just now.
BACKDATE = timedelta(minutes=1)


@dataclass(frozen=True)
class Leaf:
    """`certificates`: PEM, leaf first. `key`: PEM, PKCS#8, in no repr."""

    certificates: str
    key: str = field(repr=False)
    not_before: datetime
    not_after: datetime

    @property
    def renew_at(self) -> datetime:
        """At two thirds of its life."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def own(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Leaf:
    """A certificate that was made here just now, for that key."""
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return Leaf(pem, key_pem(key), certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def load(certificates: str, key: str, bundle: TrustBundle, now: datetime) -> Leaf:
    """A certificate and key given by somebody else, checked. Raises IdentityError: unreadable, not yet valid, expired,
    a key of another certificate, signed by a root that is not trusted."""
    try:
        leaf = x509.load_pem_x509_certificates(certificates.encode())[0]
    except ValueError as error:
        raise IdentityError(f"the certificate is unreadable: {error}", remedy="give it as PEM, leaf first") from error
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError("the key is unreadable", remedy="give it as PEM, PKCS#8, unencrypted") from error
    if now > leaf.not_valid_after_utc:
        raise IdentityError(
            f"the certificate expired at {leaf.not_valid_after_utc:%F %T} UTC", remedy="enrol the workload again"
        )
    if now < leaf.not_valid_before_utc:
        raise IdentityError(
            f"the certificate is valid only from {leaf.not_valid_before_utc:%F %T} UTC",
            remedy="set this host's clock right",
        )
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*spki) != leaf.public_key().public_bytes(*spki):
        raise IdentityError("the key belongs to another certificate", remedy="give key and certificate of one pair")
    bundle.root_of(leaf, now)
    return Leaf(certificates, key, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def template(
    checked: CheckedRequest, issuer: x509.Certificate, now: datetime, life: timedelta = LIFE
) -> x509.CertificateBuilder:
    """What the authority signs for a checked request; never longer than the issuer itself lives."""
    issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        # Not empty: RFC 5280, 4.2.1.6 then has the alternative name critical, which some clients refuse.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "JFE workload")]))
        .issuer_name(issuer.subject)
        .public_key(checked.key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + life, issuer.not_valid_after_utc))
        .add_extension(checked.names.subject_alternative_name(), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_digital_signature_only(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(checked.key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )


def sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _digital_signature_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
