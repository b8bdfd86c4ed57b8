"""What both applications have in common: how each error is answered."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.problems import response
from jfe_cni.overflowd.receiver.complaints import Complaints

_OF_STATUS = {404: problems.NO_RESOURCE, 405: problems.NO_METHOD}


def new_application(complaints: Complaints) -> FastAPI:
    async def fault(_request: Request, error: Exception) -> Response:
        assert isinstance(error, JfeError)
        complaints.complain(f"a request has failed: {error}")
        return response(problems.STORE if error.temporary else problems.INTERNAL)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(JfeError, fault)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_exception_handler(Exception, _failure)
    return app


def asked_with(*names: str) -> Any:
    """A dependency: what is asked for with a parameter of another name is not answered as if it had none."""

    async def check(request: Request) -> None:
        if request.query_params.keys() - set(names):
            raise RequestValidationError([])

    return Depends(check)


async def _unfit(_request: Request, _error: Exception) -> Response:
    return response(problems.UNFIT)


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return response(_OF_STATUS.get(error.status_code, problems.MALFORMED))


async def _failure(_request: Request, _error: Exception) -> Response:
    """A defect of ours. Starlette raises the error on to the server, whose log says where."""
    return response(problems.INTERNAL)
