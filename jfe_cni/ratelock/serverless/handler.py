"""What Lambda calls. The service, store and API are those of `ratelock serve`; settings come from the environment.

Lambda calls one request at a time, freezes the process in between, and ends it without a word. What is open stays open
from one call to the next; nothing is in this process that the store has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from jfe_cni import structured_log
from jfe_cni.ratelock.api.app import application
from jfe_cni.ratelock.api.health import Readiness
from jfe_cni.ratelock.assembly import opened
from jfe_cni.ratelock.serverless import events
from jfe_cni.ratelock.settings import SETTINGS


class Function:
    """`environment`: of which RATELOCK_* are the settings."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._runner = asyncio.Runner()
        self._open = contextlib.AsyncExitStack()
        self._application: ASGIApp | None = None

    def __call__(self, event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        """Raises JfeError: the event is no request, or the service can't be opened; Lambda tells who invoked it."""
        return self._runner.run(self._answer(event))

    def close(self) -> None:
        self._runner.run(self._open.aclose())
        self._runner.close()

    async def _answer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        scope, body = events.request(event)
        if self._application is None:
            self._application = await self._opened()
        return await _called(self._application, scope, body)

    async def _opened(self) -> ASGIApp:
        settings = SETTINGS.read({}, self._environment)
        structured_log.configure("ratelock", settings.log_format)
        assembled = await self._open.enter_async_context(opened(settings))
        return application(assembled.service, settings, readiness=Readiness(assembled.ready))


async def _called(application: ASGIApp, scope: dict[str, Any], body: bytes) -> dict[str, Any]:
    status, headers, parts = 0, [], []
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            # Nobody hangs up before the function has returned.
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            parts.append(message.get("body", b""))

    await application(scope, receive, send)
    return events.answer(status, headers, b"".join(parts))


handler = Function(os.environ)
