"""The log, for owners to read and to check."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from jfe_cni.ratelock.api.dependencies import CallerGiven, ServiceGiven, responses
from jfe_cni.ratelock.api.models import CheckpointAnswer, EntryAnswer, LogAnswer, VerificationAnswer

router = APIRouter(prefix="/v1/log", tags=["log"])
First = Annotated[int, Query(ge=1, le=2**63 - 1, description="The number of the first entry.")]
# Some hundred kilobytes an answer.
Most = Annotated[int, Query(ge=1, le=1000, description="The most entries of one answer.")]


@router.get("", name="log-read", responses=responses())
async def read(owner: CallerGiven, service: ServiceGiven, first: First = 1, most: Most = 1000) -> LogAnswer:
    """Entries in order. Ask again from `next` on."""
    found: list[EntryAnswer] = []
    async for entry in service.log(owner, first):
        if len(found) == most:
            return LogAnswer(entries=found, next=entry.number)
        found.append(EntryAnswer.of(entry))
    return LogAnswer(entries=found, next=None)


@router.get("/verification", name="log-verify", responses=responses())
async def verification(owner: CallerGiven, service: ServiceGiven) -> VerificationAnswer:
    """Whether the chain holds, and where not. Who trusts the service no further than the log verifies the entries
    itself, with checkpoints kept elsewhere: `ratelock log verify`."""
    return VerificationAnswer.of(await service.verify_log(owner))


@router.post("/checkpoint", name="log-checkpoint", responses=responses())
async def checkpoint(owner: CallerGiven, service: ServiceGiven) -> CheckpointAnswer:
    """The log's last entry, signed, once all before it has been verified; to be kept where the store's holder can't
    reach, and the key with it."""
    signed = await service.checkpoint(owner)
    return CheckpointAnswer(checkpoint=signed.text(), public_key=service.checkpoint_key)
