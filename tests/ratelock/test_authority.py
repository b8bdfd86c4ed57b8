"""An authority that only signs: for a node its own workloads, under budgets, and never what a caller writes."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from jfe_cni.errors import RequestError
from jfe_cni.identity import csr, leaf
from jfe_cni.identity.bundle import TrustBundle
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.faults import BudgetSpent, Forbidden, UnknownSecret
from jfe_cni.ratelock.service import Ratelock
from jfe_cni.ratelock.store import Store
from tests.ratelock.services import OWNER, logged, service_on, store_at

NODE = Caller("spiffe://jfe.test/host/n1/agent", "caller", frozenset({"certify"}), ("ca",))
OTHER_NODE = dataclasses.replace(NODE, identity="spiffe://jfe.test/host/n2/agent")
WITH_PODS = dataclasses.replace(NODE, operations=frozenset({"certify", "certify-pods"}))
WEB = "spiffe://jfe.test/host/n1/unit/web.service"
ADDRESSES = frozenset({ipaddress.ip_address("10.1.0.5")})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Ratelock]:
    async with service_on(store) as service:
        yield service


@pytest.fixture
async def roots(service: Ratelock) -> TrustBundle:
    return TrustBundle.parse(await service.add_authority(OWNER, "ca", "jfe.test"))


def request(identity: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    return csr.request(key or leaf.new_key(), Names(SpiffeId.parse(identity), ADDRESSES))


async def test_a_node_has_its_workload_certified_by_a_root_whose_key_nobody_sees(
    service: Ratelock, store: Store, roots: TrustBundle
) -> None:
    key = leaf.new_key()
    made = await service.certify(NODE, "ca", request(WEB, key), "n1")
    now = datetime.now(UTC)
    issued = leaf.load(made, leaf.key_pem(key), roots, now)
    assert issued.not_after - now <= leaf.LIFE
    names = x509.load_pem_x509_certificate(made.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value == Names(SpiffeId.parse(WEB), ADDRESSES).subject_alternative_name()
    assert await service.trust_bundle(NODE, "ca") == roots.pem()
    stored = await store.secret("ca")
    assert stored is not None
    assert (stored.kind, stored.public) == ("key", roots.pem())
    assert b"PRIVATE KEY" not in stored.sealed


@pytest.mark.parametrize(
    ("caller", "node", "identity"),
    [
        (NODE, "n1", "spiffe://jfe.test/host/n2/unit/web.service"),
        (OTHER_NODE, "n1", WEB),
        (OTHER_NODE, "n2", WEB),
        (NODE, "n2", "spiffe://jfe.test/host/n2/unit/web.service"),
        (NODE, "n1", NODE.identity),
        (NODE, "n1", "spiffe://jfe.test/host/n1"),
        (NODE, "n1", "spiffe://jfe.test/host/n11/unit/web.service"),
        (NODE, "n1", "spiffe://other.test/host/n1/unit/web.service"),
        (NODE, "n1", "spiffe://jfe.test/ns/shop/pod/web"),
        (WITH_PODS, "n1", "spiffe://jfe.test/ns/shop"),
        (NODE, "n1", "spiffe://jfe.test/docker/bridge/web"),
        (NODE, "n1", "spiffe://jfe.test/unit/web"),
        (dataclasses.replace(NODE, identity="n1"), "n1", WEB),
        (dataclasses.replace(NODE, identity="spiffe://jfe.test/ns/n1/pod/agent"), "n1", WEB),
        (dataclasses.replace(NODE, operations=frozenset({"sign"})), "n1", WEB),
        (dataclasses.replace(NODE, operations=frozenset({"certify-pods"})), "n1", WEB),
        (dataclasses.replace(NODE, secrets=("other",)), "n1", WEB),
        (OWNER, "n1", WEB),
    ],
)
async def test_nobody_has_certified_what_is_not_its_own_and_nothing_is_counted(
    service: Ratelock, store: Store, roots: TrustBundle, caller: Caller, node: str, identity: str
) -> None:
    entries = await logged(store)
    with pytest.raises(Forbidden):
        await service.certify(caller, "ca", request(identity), node)
    assert await logged(store) == entries


async def test_a_credential_for_pods_has_any_of_them_certified_and_its_own_workloads(
    service: Ratelock, roots: TrustBundle
) -> None:
    for identity in ("spiffe://jfe.test/ns/shop/pod/web", "spiffe://jfe.test/ns/shop/sa/web", WEB):
        certificate = x509.load_pem_x509_certificate(
            (await service.certify(WITH_PODS, "ca", request(identity), "n1")).encode()
        )
        certificate.verify_directly_issued_by(roots.roots[0])


async def test_a_node_of_another_trust_domain_has_nothing_certified(service: Ratelock, roots: TrustBundle) -> None:
    stranger = dataclasses.replace(NODE, identity="spiffe://other.test/host/n1/agent")
    with pytest.raises(RequestError, match=r"of another trust domain than jfe\.test"):
        await service.certify(stranger, "ca", request("spiffe://other.test/host/n1/unit/web.service"), "n1")


async def test_what_is_no_request_is_refused(service: Ratelock, roots: TrustBundle) -> None:
    pem = request(WEB)
    good = x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)
    forged = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1])).public_bytes(Encoding.PEM).decode()
    on_another_curve = (
        x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
        .add_extension(Names(SpiffeId.parse(WEB), ADDRESSES).subject_alternative_name(), critical=True)
        .sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
    )
    for text, why in (
        ("no PEM", "unreadable"),
        (forged, "not signed by the key"),
        (on_another_curve.public_bytes(Encoding.PEM).decode(), "P-256"),
    ):
        with pytest.raises(RequestError, match=why):
            await service.certify(NODE, "ca", text, "n1")


async def test_a_budget_per_node_and_in_all_bounds_what_is_signed(service: Ratelock, roots: TrustBundle) -> None:
    hour = 3_600_000_000
    await service.set_budget(OWNER, Meter("secret", "ca"), Budget((Limit(3, hour),)))
    await service.set_budget(OWNER, Meter("caller", NODE.identity), Budget((Limit(2, hour),)))
    for _ in range(2):
        await service.certify(NODE, "ca", request(WEB), "n1")
    with pytest.raises(BudgetSpent) as spent:
        await service.certify(NODE, "ca", request(WEB), "n1")
    assert spent.value.meter == Meter("caller", NODE.identity)
    assert spent.value.retry_after is not None
    assert 0 < spent.value.retry_after <= 3600
    theirs = "spiffe://jfe.test/host/n2/unit/web.service"
    await service.certify(OTHER_NODE, "ca", request(theirs), "n2")
    with pytest.raises(BudgetSpent) as spent:
        await service.certify(OTHER_NODE, "ca", request(theirs), "n2")
    assert spent.value.meter == Meter("secret", "ca")


async def test_all_credentials_of_a_node_have_one_budget(service: Ratelock, roots: TrustBundle) -> None:
    """One that was certified for the node would else begin anew."""
    await service.set_budget(OWNER, Meter("secret", "ca"), Budget((Limit(99, 3_600_000_000),)))
    node = Meter("caller", "spiffe://jfe.test/host/n1")
    await service.set_budget(OWNER, node, Budget((Limit(2, 3_600_000_000),)))
    await service.certify(NODE, "ca", request(WEB), "n1")
    as_workload = dataclasses.replace(NODE, identity=WEB)
    another = "spiffe://jfe.test/host/n1/unit/another.service"
    await service.certify(as_workload, "ca", request(another), "n1")
    for caller in (NODE, as_workload, dataclasses.replace(NODE, identity=another)):
        with pytest.raises(BudgetSpent) as spent:
            await service.certify(caller, "ca", request("spiffe://jfe.test/host/n1/unit/third.service"), "n1")
        assert spent.value.meter == node
    await service.certify(OTHER_NODE, "ca", request("spiffe://jfe.test/host/n2/unit/web.service"), "n2")


async def test_an_authority_signs_nothing_else_and_no_other_key_certifies(
    service: Ratelock, roots: TrustBundle
) -> None:
    await service.add_key(OWNER, "signer", "ecdsa-p256")
    anything = Caller("spiffe://jfe.test/host/n1/agent", "caller", None, ("*",))
    with pytest.raises(Forbidden, match="may not sign with ca"):
        await service.sign(anything, "ca", b"to be signed")
    for name in ("signer", "nobody"):
        with pytest.raises(Forbidden, match=f"may not certify with {name}"):
            await service.certify(anything, name, request(WEB), "n1")
        with pytest.raises(Forbidden, match=f"may not certify with {name}"):
            await service.trust_bundle(anything, name)


@pytest.mark.parametrize(
    "caller",
    [
        OWNER,
        dataclasses.replace(NODE, operations=frozenset({"sign"})),
        dataclasses.replace(NODE, secrets=("other",)),
    ],
)
async def test_the_roots_are_told_to_whoever_may_have_certificates_of_them_uncounted(
    service: Ratelock, store: Store, roots: TrustBundle, caller: Caller
) -> None:
    entries = await logged(store)
    for _ in range(5):
        assert await service.trust_bundle(NODE, "ca") == roots.pem()
    with pytest.raises(Forbidden):
        await service.trust_bundle(caller, "ca")
    assert await logged(store) == entries


async def test_an_expired_authority_certifies_nothing(store: Store) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    async with service_on(store, clock=lambda: now) as service:
        await service.add_authority(OWNER, "ca", "jfe.test")
        await service.certify(NODE, "ca", request(WEB), "n1")
        now += timedelta(days=3651)
        with pytest.raises(RequestError, match="valid only from"):
            await service.certify(NODE, "ca", request(WEB), "n1")


async def test_a_rotation_trusts_the_new_root_before_it_signs_and_the_old_one_after(
    service: Ratelock, roots: TrustBundle
) -> None:
    await service.set_budget(OWNER, Meter("secret", "ca"), Budget((Limit(100, 1_000_000),)))
    (old,) = roots.roots
    found = {}
    for step in ("begin", "switch", "retire"):
        bundle = TrustBundle.parse(await service.rotate_authority(OWNER, "ca", step))
        assert await service.trust_bundle(NODE, "ca") == bundle.pem()
        made = x509.load_pem_x509_certificate((await service.certify(NODE, "ca", request(WEB), "n1")).encode())
        found[step] = (bundle.roots, bundle.root_of(made, datetime.now(UTC)))
    new = found["retire"][0][0]
    assert new != old
    assert found == {"begin": ((old, new), old), "switch": ((new, old), new), "retire": ((new,), new)}


async def test_a_rotation_goes_step_by_step_and_only_authorities_rotate(service: Ratelock, roots: TrustBundle) -> None:
    await service.add_key(OWNER, "signer", "ecdsa-p256")
    for steps, step in (("switch retire", "begin"), ("begin retire", "switch"), ("begin switch", "retire")):
        for wrong in steps.split():
            with pytest.raises(RequestError, match="begin, switch, retire"):
                await service.rotate_authority(OWNER, "ca", wrong)
        await service.rotate_authority(OWNER, "ca", step)
    for name in ("signer", "nobody"):
        with pytest.raises(UnknownSecret):
            await service.rotate_authority(OWNER, name, "begin")
