"""What owners do with budgets. What loosens one waits for the budget's own delay; what tightens it holds at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from jfe_cni.ratelock.api.answers import response
from jfe_cni.ratelock.api.dependencies import CallerGiven, ServiceGiven, responses
from jfe_cni.ratelock.api.models import BudgetAnswer, BudgetModel, BudgetsAnswer, Name
from jfe_cni.ratelock.api.problems import NO_RESOURCE, Problem
from jfe_cni.ratelock.api.service import Service
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.budgets import Meter

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])
Kind = Annotated[Literal["caller", "class", "secret"], Path(description="What the budget counts by.")]
MeterName = Annotated[Name, Path(description="Of a caller, a class or a secret; slashes may be written as %2F.")]

PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": BudgetAnswer, "description": "It is removed at `pending_from`."}
}


@router.get("", name="budgets-list", responses=responses())
async def list_budgets(owner: CallerGiven, service: ServiceGiven) -> BudgetsAnswer:
    """All that were set."""
    return BudgetsAnswer(budgets=[BudgetAnswer.of(each) for each in await service.budgets(owner)])


@router.get("/all", name="budget-show", response_model=BudgetAnswer, responses=responses(404))
async def show_all(owner: CallerGiven, service: ServiceGiven) -> BudgetAnswer | Response:
    """Of every attempt."""
    return await _show(owner, service, Meter("all"))


@router.put("/all", name="budget-set", responses=responses(409))
async def set_all(new: BudgetModel, owner: CallerGiven, service: ServiceGiven) -> BudgetAnswer:
    """Of every attempt. Where it loosens, the answer says from when on."""
    return await _set(owner, service, Meter("all"), new)


@router.delete("/all", name="budget-remove", status_code=204, response_model=None, responses=responses() | PENDING)
async def remove_all(owner: CallerGiven, service: ServiceGiven) -> Response:
    """Of every attempt. A removal loosens: 202 says from when on."""
    return await _remove(owner, service, Meter("all"))


@router.get("/{kind}/{name:path}", name="budget-show", response_model=BudgetAnswer, responses=responses(404))
async def show_one(kind: Kind, name: MeterName, owner: CallerGiven, service: ServiceGiven) -> BudgetAnswer | Response:
    """Of a caller, a class of secrets, or a secret."""
    return await _show(owner, service, Meter(kind, name))


# A path with a line feed in it meets no route, whatever the method.
@router.put("/{kind}/{name:path}", name="budget-set", responses=responses(404, 409))
async def set_one(
    kind: Kind, name: MeterName, new: BudgetModel, owner: CallerGiven, service: ServiceGiven
) -> BudgetAnswer:
    """Of a caller, a class of secrets, or a secret. Where it loosens, the answer says from when on."""
    return await _set(owner, service, Meter(kind, name), new)


@router.delete(
    "/{kind}/{name:path}",
    name="budget-remove",
    status_code=204,
    response_model=None,
    responses=responses(404) | PENDING,
)
async def remove_one(kind: Kind, name: MeterName, owner: CallerGiven, service: ServiceGiven) -> Response:
    """Of a caller, a class of secrets, or a secret. A removal loosens: 202 says from when on."""
    return await _remove(owner, service, Meter(kind, name))


async def _show(owner: Caller, service: Service, meter: Meter) -> BudgetAnswer | Response:
    stored = await service.budget(owner, meter)
    return _none_set() if stored is None else BudgetAnswer.of(stored)


async def _set(owner: Caller, service: Service, meter: Meter, new: BudgetModel) -> BudgetAnswer:
    stored = await service.set_budget(owner, meter, new.budget())
    assert stored is not None
    return BudgetAnswer.of(stored)


async def _remove(owner: Caller, service: Service, meter: Meter) -> Response:
    stored = await service.set_budget(owner, meter, None)
    if stored is None:
        return Response(status_code=204)
    return JSONResponse(BudgetAnswer.of(stored).model_dump(), status_code=202)


def _none_set() -> Response:
    return response(Problem(NO_RESOURCE, "no budget is set here"))
