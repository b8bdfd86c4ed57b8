"""The authority: a folder that nobody else reads, leaves that say what they should, and a rotation without a gap."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity import csr, leaf, spiffe
from jfe_cni.identity.authority import Authority, Phase, open_authority
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import TrustDomain

DOMAIN = TrustDomain.parse("jfe.local")
ADDRESSES = frozenset({ipaddress.ip_address("10.1.0.5"), ipaddress.ip_address("fd00::5")})
WEB = Names(spiffe.host_run(DOMAIN, "n1", "web"), ADDRESSES)
OTHER = Names(spiffe.host_run(DOMAIN, "n1", "other"), ADDRESSES)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    return open_authority(tmp_path / "authority", DOMAIN, clock)


def phase_of(authority: Authority) -> Phase:
    return authority.phase


def test_the_folder_and_the_key_are_for_the_owner_alone(authority: Authority, tmp_path: Path) -> None:
    assert (tmp_path / "authority").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "authority").iterdir()] == ["signing.pem"]
    assert (tmp_path / "authority" / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_an_authority_opened_again_is_the_same(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    assert open_authority(tmp_path / "authority", DOMAIN, clock).bundle == authority.bundle


@pytest.mark.parametrize("wide", ["authority", "authority/signing.pem"])
def test_a_key_that_others_could_read_is_refused(authority: Authority, tmp_path: Path, clock: Clock, wide: str) -> None:
    (tmp_path / wide).chmod(0o750)
    with pytest.raises(IdentityError, match="open to others"):
        open_authority(tmp_path / "authority", DOMAIN, clock)


def test_an_unreadable_key_is_named_as_such(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "authority" / "signing.pem").write_text("nothing")
    with pytest.raises(IdentityError, match="unreadable"):
        open_authority(tmp_path / "authority", DOMAIN, clock)


def test_an_authority_for_another_trust_domain_is_refused(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(IdentityError, match="another trust domain"):
        open_authority(tmp_path / "authority", TrustDomain.parse("elsewhere"), clock)


def test_a_key_beside_a_certificate_of_another_is_refused(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    signing = tmp_path / "authority" / "signing.pem"
    certificate = signing.read_text()[signing.read_text().index("-----BEGIN CERTIFICATE") :]
    signing.write_text(leaf.key_pem(leaf.new_key()) + certificate)
    with pytest.raises(IdentityError, match="does not belong"):
        open_authority(tmp_path / "authority", DOMAIN, clock)


def test_a_leaf_says_who_and_where_and_nothing_more(authority: Authority, clock: Clock) -> None:
    issued = authority.issue(WEB)
    certificate = x509.load_pem_x509_certificate(issued.certificates.encode())
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://jfe.local/host/n1/run/web"]
    assert set(alternative.get_values_for_type(x509.IPAddress)) == ADDRESSES
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_a_leaf_lives_for_hours_and_is_renewed_at_two_thirds(authority: Authority, clock: Clock) -> None:
    issued = authority.issue(WEB)
    assert issued.not_before == clock.now - timedelta(minutes=1)
    assert issued.not_after == clock.now + timedelta(hours=12)
    assert issued.renew_at == issued.not_before + timedelta(hours=8, seconds=40)


def test_a_leaf_never_outlives_its_root(authority: Authority, clock: Clock) -> None:
    end = authority.signing_root.not_valid_after_utc
    clock.now = end - timedelta(hours=1)
    assert authority.issue(WEB).not_after == end


def test_an_expired_root_signs_nothing(authority: Authority, clock: Clock) -> None:
    clock.now = authority.signing_root.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(IdentityError, match="valid only from"):
        authority.issue(WEB)


def test_an_identity_of_another_trust_domain_is_not_signed(authority: Authority) -> None:
    foreign = Names(spiffe.host_run(TrustDomain.parse("elsewhere"), "n1", "web"), ADDRESSES)
    with pytest.raises(IdentityError, match="another trust domain"):
        authority.issue(foreign)


def test_more_addresses_than_a_workload_can_have_are_a_fault_here_as_from_elsewhere(authority: Authority) -> None:
    first = ipaddress.ip_address("10.2.0.0")
    addresses = [first + number for number in range(csr.ADDRESS_LIMIT + 1)]
    assert authority.issue(Names(WEB.id, frozenset(addresses[1:])))
    with pytest.raises(IdentityError, match="more than 256 addresses"):
        authority.issue(Names(WEB.id, frozenset(addresses)))


def test_a_key_never_shows_in_a_repr(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority.issue(WEB))


def test_openssl_takes_root_and_leaf(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(WEB)
    context = ssl.create_default_context(cadata=authority.bundle.pem())
    (tmp_path / "leaf.pem").write_text(issued.key + issued.certificates)
    context.load_cert_chain(tmp_path / "leaf.pem")


def test_a_rotation_trusts_the_new_root_before_it_signs_and_the_old_one_after(authority: Authority) -> None:
    old = authority.issue(WEB)
    first = authority.signing_root
    authority.begin_rotation()
    assert phase_of(authority) is Phase.INTRODUCED
    assert authority.signing_root == first
    during = authority.bundle
    assert len(during.roots) == 2
    authority.switch()
    assert phase_of(authority) is Phase.SWITCHED
    new = authority.issue(WEB)
    assert set(authority.bundle.roots) == set(during.roots)
    for each in (old, new):
        certificate = x509.load_pem_x509_certificate(each.certificates.encode())
        during.root_of(certificate, each.not_before)
    authority.retire()
    assert phase_of(authority) is Phase.SINGLE
    assert first not in authority.bundle.roots
    with pytest.raises(IdentityError, match="none of the roots"):
        authority.bundle.root_of(x509.load_pem_x509_certificate(old.certificates.encode()), old.not_before)


def test_the_steps_of_a_rotation_keep_their_order(authority: Authority) -> None:
    for step in (authority.switch, authority.retire):
        with pytest.raises(RequestError, match="begin, switch, retire"):
            step()
    authority.begin_rotation()
    for step in (authority.begin_rotation, authority.retire):
        with pytest.raises(RequestError, match="begin, switch, retire"):
            step()


def test_the_former_key_is_gone_after_the_switch(authority: Authority, tmp_path: Path) -> None:
    authority.begin_rotation()
    authority.switch()
    assert "PRIVATE" not in (tmp_path / "authority" / "former.pem").read_text()
    assert not (tmp_path / "authority" / "next.pem").exists()


def test_a_crash_in_the_middle_of_the_switch_leaves_an_authority_that_can_go_on(
    authority: Authority, tmp_path: Path, clock: Clock
) -> None:
    authority.begin_rotation()
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "authority", before)
    authority.switch()
    shutil.copy(tmp_path / "authority" / "former.pem", before / "former.pem")
    interrupted = open_authority(before, DOMAIN, clock)
    assert interrupted.phase == Phase.INTRODUCED
    assert len(interrupted.bundle.roots) == 2
    interrupted.switch()
    assert interrupted.bundle == authority.bundle


def test_two_agents_that_share_a_folder_see_one_rotation(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    second = open_authority(tmp_path / "authority", DOMAIN, clock)
    authority.begin_rotation()
    second.reload()
    assert second.bundle == authority.bundle


def test_a_request_for_another_identity_is_refused() -> None:
    with pytest.raises(IdentityError, match="is granted"):
        csr.check(csr.request(leaf.new_key(), OTHER), granted=WEB)


def test_a_request_for_an_address_of_somebody_else_is_refused() -> None:
    wish = Names(WEB.id, ADDRESSES | {ipaddress.ip_address("10.9.9.9")})
    with pytest.raises(IdentityError, match=r"10\.9\.9\.9"):
        csr.check(csr.request(leaf.new_key(), wish), granted=WEB)


def test_a_request_for_fewer_addresses_is_granted() -> None:
    wish = Names(WEB.id, frozenset(list(ADDRESSES)[:1]))
    assert csr.check(csr.request(leaf.new_key(), wish), granted=WEB).names == wish


def test_a_request_without_its_key_is_refused() -> None:
    request = x509.load_pem_x509_csr(csr.request(leaf.new_key(), WEB).encode())
    der = request.public_bytes(Encoding.DER)
    forged = der[:-1] + bytes([der[-1] ^ 1])
    pem = ssl.DER_cert_to_PEM_cert(forged).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(IdentityError, match="not signed by the key"):
        csr.check(pem, granted=WEB)


def test_a_request_on_another_curve_is_refused() -> None:
    with pytest.raises(IdentityError, match="P-256"):
        csr.check(csr.request(ec.generate_private_key(ec.SECP384R1()), WEB), granted=WEB)


@pytest.mark.parametrize("rubbish", ["", "rubbish", "x" * 40_000])
def test_what_is_no_request_is_refused(rubbish: str) -> None:
    with pytest.raises(IdentityError):
        csr.check(rubbish, granted=WEB)


def test_a_leaf_from_elsewhere_is_checked_and_each_fault_has_its_text(authority: Authority, clock: Clock) -> None:
    good = authority.issue(WEB)
    assert leaf.load(good.certificates, good.key, authority.bundle, clock.now) == good
    other = authority.issue(OTHER)

    def refusal(certificates: str, key: str, bundle: TrustBundle, now: datetime) -> str:
        with pytest.raises(IdentityError) as refused:
            leaf.load(certificates, key, bundle, now)
        return refused.value.message

    assert "certificate is unreadable" in refusal("x", good.key, authority.bundle, clock.now)
    assert "key is unreadable" in refusal(good.certificates, "x", authority.bundle, clock.now)
    assert "another certificate" in refusal(good.certificates, other.key, authority.bundle, clock.now)
    assert "expired" in refusal(good.certificates, good.key, authority.bundle, good.not_after + timedelta(seconds=1))
    assert "valid only from" in refusal(
        good.certificates, good.key, authority.bundle, good.not_before - timedelta(seconds=1)
    )


def test_a_leaf_of_a_root_that_nobody_trusts_is_refused(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    good = authority.issue(WEB)
    stranger = open_authority(tmp_path / "stranger", DOMAIN, clock)
    with pytest.raises(IdentityError, match="none of the roots"):
        leaf.load(good.certificates, good.key, stranger.bundle, clock.now)


def test_a_bundle_reads_as_it_was_written(authority: Authority) -> None:
    authority.begin_rotation()
    assert TrustBundle.parse(authority.bundle.pem()) == authority.bundle
    with pytest.raises(IdentityError, match="unreadable"):
        TrustBundle.parse("rubbish")
