"""What owners do with secrets. None is ever read back."""

from __future__ import annotations

from fastapi import APIRouter

from jfe_cni.ratelock.api.dependencies import CallerGiven, SecretName, ServiceGiven, responses
from jfe_cni.ratelock.api.models import (
    BundleAnswer,
    NewAuthority,
    NewKey,
    NewPassword,
    NewRecord,
    NewSecret,
    RotationRequest,
    SecretAnswer,
    SecretsAnswer,
)
from jfe_cni.ratelock.store import SecretKind

router = APIRouter(prefix="/v1/secrets", tags=["secrets"])


@router.get("", name="secrets-list", responses=responses())
async def list_secrets(owner: CallerGiven, service: ServiceGiven) -> SecretsAnswer:
    """Names, kinds and classes, and the public half of keys."""
    views = await service.list_secrets(owner)
    answers = [
        SecretAnswer(**{"class": each.secret_class}, name=each.name, kind=each.kind, public=each.public)
        for each in views
    ]
    return SecretsAnswer(secrets=answers)


@router.put("/{name:path}", name="secret-add", status_code=201, responses=responses(404, 409))
async def add(name: SecretName, new: NewSecret, owner: CallerGiven, service: ServiceGiven) -> SecretAnswer:
    """A new secret; 409 where the name is taken, for whoever replaces one must remove it first. A key is made here and
    leaves never."""
    public: str | None = None
    kind: SecretKind = "key"
    match new:
        case NewPassword():
            kind = new.kind
            await service.add_password(owner, name, new.password.get_secret_value().encode(), new.class_)
        case NewRecord():
            kind = new.kind
            record = {field: value.get_secret_value() for field, value in new.fields_.items()}
            await service.add_record(owner, name, record, new.class_)
        case NewKey():
            public = await service.add_key(owner, name, new.algorithm, new.class_)
        case NewAuthority():
            public = await service.add_authority(owner, name, new.trust_domain, new.class_)
    return SecretAnswer(**{"class": new.class_}, name=name, kind=kind, public=public)


@router.post("/{name:path}/rotation", name="authority-rotate", responses=responses(404, 409))
async def rotate(name: SecretName, asked: RotationRequest, owner: CallerGiven, service: ServiceGiven) -> BundleAnswer:
    """The next step of an authority's rotation, and the roots after it."""
    return BundleAnswer(roots=await service.rotate_authority(owner, name, asked.step))


@router.delete("/{name:path}", name="secret-remove", status_code=204, responses=responses(404))
async def remove(name: SecretName, owner: CallerGiven, service: ServiceGiven) -> None:
    """It is gone; what was counted for it is not."""
    await service.remove(owner, name)
