"""Certificate signing requests (RFC 2986): made where the key is, checked where the authority is."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import IdentityError
from jfe_cni.identity.spiffe import SpiffeId

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# An authority is no place for a request of any size: a node with this many addresses for one workload has a fault.
ADDRESS_LIMIT = 256
_REQUEST_LIMIT = 32 * 1024


@dataclass(frozen=True)
class Names:
    """What a certificate says of its holder, or may say at most."""

    id: SpiffeId
    addresses: frozenset[Address]

    def subject_alternative_name(self) -> x509.SubjectAlternativeName:
        """The id as URI, then the addresses, IPv4 first, each ascending: the same names give the same bytes."""
        addresses = sorted(self.addresses, key=lambda address: (address.version, int(address)))
        return x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(str(self.id)), *(x509.IPAddress(address) for address in addresses)]
        )


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose sender holds the key and may have the names. Only `check` and `own` make one."""

    key: ec.EllipticCurvePublicKey
    names: Names


def own(key: ec.EllipticCurvePrivateKey, names: Names) -> CheckedRequest:
    """Of whoever has key and authority both: there is nothing to prove. Raises IdentityError: too many addresses."""
    _refuse_too_many(len(names.addresses))
    return CheckedRequest(key.public_key(), names)


def request(key: ec.EllipticCurvePrivateKey, names: Names) -> str:
    """A request for `names`, signed by `key`, as PEM."""
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(names.subject_alternative_name(), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def asked(pem: str) -> Names:
    """The names that a request is for: whoever sent it has proven nothing yet. Raises IdentityError."""
    return _names_of(_parse(pem))


def check(pem: str, granted: Names) -> CheckedRequest:
    """Proof of possession, key and names. Names may be fewer than granted, never other ones.

    Raises IdentityError with a text of its own for each thing that can be wrong."""
    signing_request = _parse(pem)
    key = signing_request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("the request's key is not ECDSA P-256", remedy="make a key on that curve")
    if not signing_request.is_signature_valid:
        raise IdentityError(
            "the request is not signed by the key that it names", remedy="sign the request with the workload's own key"
        )
    names = _names_of(signing_request)
    if names.id != granted.id:
        raise IdentityError(
            f"{names.id} was asked for, {granted.id} is granted", remedy="ask for the workload's own identity"
        )
    foreign = names.addresses - granted.addresses
    if foreign:
        raise IdentityError(
            f"{min(map(str, foreign))} was asked for and is no address of {granted.id}",
            remedy="ask for the workload's own addresses only",
        )
    return CheckedRequest(key, names)


def _parse(pem: str) -> x509.CertificateSigningRequest:
    if len(pem) > _REQUEST_LIMIT:
        raise IdentityError("the request is larger than 32 KiB", remedy="ask for fewer names")
    try:
        return x509.load_pem_x509_csr(pem.encode())
    except ValueError as error:
        raise IdentityError(f"the request is unreadable: {error}", remedy="send a PKCS#10 request as PEM") from error


def _names_of(signing_request: x509.CertificateSigningRequest) -> Names:
    try:
        extensions = signing_request.extensions
        alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise IdentityError("the request names nobody", remedy="put the SPIFFE id into its subjectAltName") from error
    uris = alternative.get_values_for_type(x509.UniformResourceIdentifier)
    addresses = alternative.get_values_for_type(x509.IPAddress)
    if len(uris) != 1:
        raise IdentityError(f"the request names {len(uris)} identities", remedy="ask for one SPIFFE id")
    if len(extensions) != 1 or len(uris) + len(addresses) != len(list(alternative)) or list(signing_request.subject):
        raise IdentityError(
            "the request asks for more than one SPIFFE id and addresses", remedy="leave everything else out"
        )
    _refuse_too_many(len(addresses))
    return Names(
        SpiffeId.parse(uris[0]),
        frozenset(a for a in addresses if isinstance(a, ipaddress.IPv4Address | ipaddress.IPv6Address)),
    )


def _refuse_too_many(addresses: int) -> None:
    if addresses > ADDRESS_LIMIT:
        raise IdentityError(f"the request names more than {ADDRESS_LIMIT} addresses", remedy="ask for fewer")
