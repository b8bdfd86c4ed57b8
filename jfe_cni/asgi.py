"""What the services' boundaries have in common, round any ASGI application (asgi.readthedocs.io, HTTP, 2.4)."""

from __future__ import annotations

from starlette.types import Message, Receive


def replayed(body: bytes, receive: Receive) -> Receive:
    """For an application whose request's body has been read already, whole."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
