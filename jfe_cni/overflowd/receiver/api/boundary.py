"""What every request passes before the application sees a byte of it: bounds of number, size and time, and the fields
that every answer has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.problems import Problem, response

Headers = Sequence[tuple[bytes, bytes]]

NOSNIFF: Headers = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

_MOST_REQUESTS = 256
# Seconds until a request of a few kilobytes has come.
_PATIENCE = 10.0


class Boundary:
    """`largest`: bytes of a body. `always`: fields of every answer. `names`: that it is asked for by, beside addresses
    and localhost; None: by any."""

    def __init__(
        self, application: ASGIApp, largest: int, always: Headers, names: frozenset[str] | None = None
    ) -> None:
        self._application = application
        self._largest = largest
        self._always = always
        self._names = names
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._always]
            await send(message)

        self._running += 1
        try:
            body = self._refusal(scope) or await self._read(scope, receive)
            if isinstance(body, Problem):
                await response(body)(scope, receive, answer)
            else:
                await self._application(scope, _replayed(body, receive), answer)
        finally:
            self._running -= 1

    def _refusal(self, scope: Scope) -> Problem | None:
        if self._running > _MOST_REQUESTS:
            return problems.BUSY
        return None if self._names is None or _is_asked_by(scope, self._names) else problems.NO_NAME

    async def _read(self, scope: Scope, receive: Receive) -> bytes | Problem:
        """The whole body; nothing of it is read where its length was told and is too much."""
        # The server has refused what is no number.
        if next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0) > self._largest:
            return problems.TOO_LARGE
        body = bytearray()
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > self._largest:
                        return problems.TOO_LARGE
                    if message["type"] == "http.disconnect":
                        return problems.MALFORMED
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            return problems.SLOW


def _is_asked_by(scope: Scope, names: frozenset[str]) -> bool:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost" or name in names
    return True


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
