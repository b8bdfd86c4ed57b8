"""What owners do with tokens."""

from __future__ import annotations

import hashlib
from typing import Annotated, get_args

from fastapi import APIRouter, Path

from jfe_cni.ratelock.api.dependencies import CallerGiven, ServiceGiven, responses
from jfe_cni.ratelock.api.models import TokenAnswer, TokenRequest
from jfe_cni.ratelock.store import Operation

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the token, in hexadecimal.")]


@router.post("", name="token-make", status_code=201, responses=responses())
async def make(asked: TokenRequest, owner: CallerGiven, service: ServiceGiven) -> TokenAnswer:
    """A new token, shown this once and kept by nobody."""
    every: tuple[Operation, ...] = get_args(Operation) if asked.role == "caller" else ()
    operations = frozenset(every if asked.operations is None else asked.operations)
    token = await service.make_token(
        owner, asked.identity, asked.role, operations, tuple(asked.secrets), asked.expires_in
    )
    return TokenAnswer(token=token, digest=hashlib.sha256(token.encode()).hexdigest())


@router.delete("/{digest}", name="token-revoke", status_code=204, responses=responses(404))
async def revoke(digest: Digest, owner: CallerGiven, service: ServiceGiven) -> None:
    """Nobody comes in by it any more."""
    await service.revoke_token(owner, bytes.fromhex(digest))
