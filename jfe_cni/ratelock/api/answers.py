"""Problems as answers."""

from __future__ import annotations

from starlette.responses import JSONResponse

from jfe_cni.ratelock.api.problems import HEADERS_OF, MEDIA_TYPE, Problem


def response(problem: Problem) -> JSONResponse:
    headers = {**HEADERS_OF.get(problem.type, {}), **problem.headers}
    return JSONResponse(problem.document(), problem.type.status, headers, media_type=MEDIA_TYPE)
