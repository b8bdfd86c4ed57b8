"""What both applications have in common: how each error is answered."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.problems import response

log = logging.getLogger("overflowd")

_OF_STATUS = {404: problems.NO_RESOURCE, 405: problems.NO_METHOD}


def new_application() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(JfeError, _fault)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_exception_handler(Exception, _failure)
    return app


async def _fault(_request: Request, error: Exception) -> Response:
    assert isinstance(error, JfeError)
    log.warning("a request has failed: %s", error)
    return response(problems.STORE if error.temporary else problems.INTERNAL)


async def _unfit(_request: Request, _error: Exception) -> Response:
    return response(problems.UNFIT)


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return response(_OF_STATUS.get(error.status_code, problems.MALFORMED))


async def _failure(_request: Request, _error: Exception) -> Response:
    """A defect of ours. Starlette raises the error on to the server, whose log says where."""
    return response(problems.INTERNAL)
