"""The description that is served and committed (OpenAPI 3.1): FastAPI's, with what it doesn't know of."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

DESCRIPTION = """Secrets and the rules for using them. Callers spend budgets; owners set them. Every error is a problem
document (RFC 9457)."""

PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "remedy": {"type": "string", "description": "What to do about it."},
        "retry_after": {"type": "number", "description": "Seconds, of a spent budget."},
        "limit": {
            "type": "object",
            "properties": {"count": {"type": "integer"}, "window": {"type": "number", "description": "Seconds."}},
        },
        "violated-policies": {"type": "array", "items": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def describe(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    described = get_openapi(
        title="ratelock",
        version=version("jfe-cni"),
        openapi_version="3.1.0",
        description=DESCRIPTION,
        routes=routes,
    )
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "rl_ and 43 letters."},
        "certificate": {"type": "mutualTLS", "description": "An X.509-SVID whose SPIFFE id is listed."},
    }
    described["security"] = [{"token": []}, {"certificate": []}]
    return described
