"""What a cluster asks of a replica: does it live, is it ready, what has it counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.api import metrics
from jfe_cni.ratelock.api.answers import response
from jfe_cni.ratelock.api.problems import FORBIDDEN, Problem, problem_of

router = APIRouter(include_in_schema=False)
# Anybody may ask, and a key-encryption key in a cloud costs time and money.
KEPT_SECONDS = 5.0


class Readiness:
    """`probe` raises StoreError or SealingError where an attempt could not be served. A good answer is kept for
    `KEPT_SECONDS`; many who ask at once share one look."""

    def __init__(self, probe: Callable[[], Awaitable[object]], clock: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._clock = clock
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        async with self._looking:
            if self._clock() >= self._good_until:
                await self._probe()
                self._good_until = self._clock() + KEPT_SECONDS


@router.get("/healthz", name="health")
async def healthz() -> Response:
    """The process answers: no reason to start another. It asks nothing of the store, for a new process would find the
    same store."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", name="readiness")
async def readyz(request: Request) -> Response:
    """The store answers and the key-encryption key opens."""
    try:
        await request.app.state.readiness.look()
    except JfeError as error:
        return response(problem_of(error))
    return JSONResponse({"status": "ready"})


@router.get("/metrics", name="metrics")
async def metrics_text(request: Request) -> Response:
    """For owners; for everybody on the address `metrics_listen`, which is for nobody else."""
    caller = getattr(request.state, "caller", None)
    if caller is not None and caller.role != "owner":
        return response(Problem(FORBIDDEN, "metrics are for owners", "read them at metrics_listen"))
    return Response(request.app.state.metrics.text(), media_type=metrics.CONTENT_TYPE)
