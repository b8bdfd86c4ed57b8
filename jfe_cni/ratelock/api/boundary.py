"""What every request passes before the application sees a byte of it: bounds of number, size and time, and who asks.

One piece of ASGI around the routes: the body is read here, whole and bounded, under a time limit of its own. Every
answer leaves a log line and a count, which name the operation and never the secret.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jfe_cni.asgi import replayed
from jfe_cni.errors import JfeError
from jfe_cni.ratelock.api import problems
from jfe_cni.ratelock.api.answers import response
from jfe_cni.ratelock.api.authentication import Authentication
from jfe_cni.ratelock.api.metrics import Metrics, outcome_of
from jfe_cni.ratelock.api.problems import Problem
from jfe_cni.ratelock.settings import Settings
from jfe_cni.structured_log import fields

log = logging.getLogger("ratelock")

# A name of 255 letters, each of them escaped, between the longest route's other parts, with room.
LONGEST_ADDRESS = 1024
# What is open to everybody; all else asks for a credential, what is not there included.
OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
# RFC 9111, 5.2.2.5: no answer of this service is kept by anybody. RFC 9110 has no field against guessing at types.
_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


# Else the server would wait for the rest of the request, as long as something comes.
_CLOSE = {"connection": "close"}


class _CutOff(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.type.name)
        self.problem = problem


class Boundary:
    def __init__(
        self, application: ASGIApp, authentication: Authentication, metrics: Metrics, settings: Settings
    ) -> None:
        self._application = application
        self._authentication = authentication
        self._metrics = metrics
        self._settings = settings
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        state: dict[str, Any] = scope.setdefault("state", {})
        self._running += 1
        self._metrics.running.set(self._running)
        try:
            await self._serve(scope, receive, answer)
        finally:
            self._running -= 1
            self._metrics.running.set(self._running)
            self._tell(scope, state, answer.status, time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        refusal = await self._refusal(scope)
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                # Of who is refused, too, and dropped: whoever is cut off while it sends does not see the answer.
                body = await _read(scope, receive, self._settings.body_limit)
        except _CutOff as cut_off:
            await response(cut_off.problem)(scope, receive, answer)
            return
        except TimeoutError:
            await response(Problem(problems.SLOW, headers=_CLOSE))(scope, receive, answer)
            return
        if refusal is not None:
            await response(refusal)(scope, receive, answer)
            return
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self._application(scope, replayed(body, receive), answer)
        except TimeoutError:
            if answer.status:
                raise
            await response(Problem(problems.TIMEOUT))(scope, receive, answer)

    async def _refusal(self, scope: Scope) -> Problem | None:
        """None: it may go on; the scope's state says who calls."""
        if self._running > self._settings.most_requests:
            return Problem(problems.BUSY, "as many requests as may be are being served")
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_ADDRESS:
            return Problem(problems.TOO_LONG, f"path and query are longer than {LONGEST_ADDRESS} bytes")
        if scope["path"] not in OPEN:
            try:
                async with asyncio.timeout(self._settings.request_timeout):
                    scope["state"]["caller"] = await self._authentication.caller(scope)
            except TimeoutError:
                # The store's time, not the caller's.
                return Problem(problems.TIMEOUT)
            except JfeError as error:
                return problems.problem_of(error)
        return None

    def _tell(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        operation = getattr(scope.get("route"), "name", None) or "none"
        outcome = state.get("outcome") or outcome_of(status)
        self._metrics.take(operation, outcome, seconds)
        caller = state.get("caller")
        log.info(
            "request",
            extra=fields(
                operation=operation,
                outcome=outcome,
                status=status,
                milliseconds=round(seconds * 1000, 3),
                caller=None if caller is None else caller.identity,
                peer=":".join(map(str, scope["client"])) if scope.get("client") else None,
            ),
        )


class _Answer:
    """`send`, with the fields that every answer has. `status`: 0 before it began, and where nobody waited for it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *_ALWAYS]
        await self._send(message)


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises _CutOff, before anything is read where its length was told."""
    too_large = _CutOff(Problem(problems.TOO_LARGE, f"the body is longer than {limit} bytes", headers=_CLOSE))
    # h11 has refused what is no number.
    if next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0) > limit:
        raise too_large
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _CutOff(Problem(problems.MALFORMED, "the connection ended before the request did", headers=_CLOSE))
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large
        if not message.get("more_body", False):
            return bytes(body)
