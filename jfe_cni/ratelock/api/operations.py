"""What callers ask of secrets."""

from __future__ import annotations

from fastapi import APIRouter, Request

from jfe_cni.ratelock.api.dependencies import CallerGiven, IdempotencyKey, SecretName, ServiceGiven, responses
from jfe_cni.ratelock.api.models import (
    BundleAnswer,
    CertifyAnswer,
    CertifyRequest,
    CheckAnswer,
    CheckRequest,
    DecryptAnswer,
    DecryptRequest,
    MacAnswer,
    MessageRequest,
    ReleaseAnswer,
    ReleaseRequest,
    SignAnswer,
)

router = APIRouter(prefix="/v1/secrets/{name:path}", tags=["operations"], responses=responses(404, 409, 429))


@router.post("/check", name="check")
async def check(
    request: Request,
    name: SecretName,
    asked: CheckRequest,
    caller: CallerGiven,
    service: ServiceGiven,
    key: IdempotencyKey,
) -> CheckAnswer:
    """Whether it is this password. For a name that is not there: false, at the same cost and after the same time."""
    valid = await service.check(caller, name, asked.password.get_secret_value().encode(), idempotency_key=key)
    request.state.outcome = "valid" if valid else "wrong"
    return CheckAnswer(valid=valid)


@router.post("/release", name="release")
async def release(
    name: SecretName, asked: ReleaseRequest, caller: CallerGiven, service: ServiceGiven, key: IdempotencyKey
) -> ReleaseAnswer:
    """These fields of a record, and no others."""
    return ReleaseAnswer(fields=await service.release(caller, name, asked.fields_, idempotency_key=key))


@router.post("/sign", name="sign")
async def sign(
    name: SecretName, asked: MessageRequest, caller: CallerGiven, service: ServiceGiven, key: IdempotencyKey
) -> SignAnswer:
    """A signature of the message by a key."""
    return SignAnswer(signature=await service.sign(caller, name, asked.message, idempotency_key=key))


@router.post("/mac", name="mac")
async def mac(
    name: SecretName, asked: MessageRequest, caller: CallerGiven, service: ServiceGiven, key: IdempotencyKey
) -> MacAnswer:
    """A message authentication code by a key."""
    return MacAnswer(mac=await service.mac(caller, name, asked.message, idempotency_key=key))


@router.post("/decrypt", name="decrypt")
async def decrypt(
    name: SecretName, asked: DecryptRequest, caller: CallerGiven, service: ServiceGiven, key: IdempotencyKey
) -> DecryptAnswer:
    """What was encrypted to a key."""
    return DecryptAnswer(plaintext=await service.decrypt(caller, name, asked.ciphertext, idempotency_key=key))


@router.post("/certify", name="certify")
async def certify(
    name: SecretName, asked: CertifyRequest, caller: CallerGiven, service: ServiceGiven, key: IdempotencyKey
) -> CertifyAnswer:
    """A certificate for a request (PKCS#10, PEM) of one of this node's workloads, by an authority's key."""
    return CertifyAnswer(certificates=await service.certify(caller, name, asked.csr, asked.node, idempotency_key=key))


@router.get("/bundle", name="bundle")
async def bundle(name: SecretName, caller: CallerGiven, service: ServiceGiven) -> BundleAnswer:
    """The roots by which an authority's certificates are verified. Not counted."""
    return BundleAnswer(roots=await service.trust_bundle(caller, name))
