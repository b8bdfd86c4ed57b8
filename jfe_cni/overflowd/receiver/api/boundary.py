"""What every request passes before the application sees a byte of it: bounds of number, size and time, and the fields
that every answer has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jfe_cni.asgi import replayed
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.problems import Problem, response
from jfe_cni.overflowd.receiver.limits import AtOnce, of_host

Headers = Sequence[tuple[bytes, bytes]]

NOSNIFF: Headers = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

MOST_REQUESTS = 512
# Seconds until a request of a few kilobytes has come.
_PATIENCE = 10.0


class Boundary:
    """`largest`: bytes of a body. `always`: fields of every answer. `names`: that it is asked for by, beside addresses
    and localhost; None: by any. `each`: requests of one network at one time; None: as many as of all. `admits`: why a
    request is not looked at, by its head and whose it is: asked before its body is waited for."""

    def __init__(
        self,
        application: ASGIApp,
        largest: int,
        always: Headers,
        names: frozenset[str] | None = None,
        each: int | None = None,
        admits: Callable[[Scope, Address], Problem | None] | None = None,
    ) -> None:
        self._application = application
        self._largest = largest
        self._always = always
        self._names = names
        self._running = AtOnce(MOST_REQUESTS, each)
        self._admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._always]
            await send(message)

        assert scope["client"] is not None
        try:
            address = of_host(scope["client"][0])
        except ValueError:
            # A proxy says that it is so: `unknown` (RFC 7239, section 6.2), or nothing that can be read.
            await response(problems.MALFORMED)(scope, receive, answer)
            return
        if not self._running.take(address):
            await response(problems.BUSY)(scope, receive, answer)
            return
        try:
            body = self._refusal(scope, address) or await self._read(scope, receive)
            if isinstance(body, Problem):
                await response(body)(scope, receive, answer)
            else:
                await self._application(scope, replayed(body, receive), answer)
        finally:
            self._running.give_back(address)

    def _refusal(self, scope: Scope, address: Address) -> Problem | None:
        if self._names is not None and not _is_asked_by(scope, self._names):
            return problems.NO_NAME
        return None if self._admits is None else self._admits(scope, address)

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
