"""The plugin's side of the agent: its calls come in by the API's socket, and go out as the runtime is to hear them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import Summary
from prometheus_client.registry import Collector

from jfe_cni.agent.attachments import Attachments
from jfe_cni.agent.log import fields
from jfe_cni.cni.commands import Absent, Commands
from jfe_cni.cni.configuration import configuration_of, version_of
from jfe_cni.cni.faults import TRY_AGAIN_LATER, CniError, answer_to
from jfe_cni.cni.invocation import COMMANDS, environment_and_input, invocation_of
from jfe_cni.cni.namespaces_file import NamespacesFile
from jfe_cni.cni.running import Running, running
from jfe_cni.cni.versions import spoken
from jfe_cni.errors import JfeError, KernelError
from jfe_cni.identity.spiffe import TrustDomain

# What the plugin takes for an answer to print (cni/src): success, and an error of the CNI specification.
_DONE, _REFUSED = 200, 422
# How soon it is seen that containers can be attached, and how often those that could not be are tried again.
_POLL_SECONDS, _RETRY_SECONDS = 0.1, 30.0
_NOT_READY = "the agent of this node is starting, or waits for its authority"


class CniService:
    """`cache`: libcni's CacheDir, where it keeps what it has added. `enrol_running`: containers that run already are
    enrolled as soon as the agent is ready."""

    def __init__(
        self,
        namespaces: NamespacesFile,
        domain: TrustDomain,
        cache: Path,
        log: logging.Logger,
        *,
        enrol_running: bool = False,
    ) -> None:
        self._namespaces = namespaces
        self._domain = domain
        self._cache = cache
        self._log = log
        self._enrol_running = enrol_running
        self._attachments: Attachments | None = None
        self._commands = self._serving(Absent(_NOT_READY))
        # Sum and count: no series a bucket, and what an ADD takes is what a pod's start waits for.
        self._seconds = Summary(
            "jfe_cni_call", "Calls of the plugin.", ["command", "code"], unit="seconds", registry=None
        )
        self._came_inline: set[str] = set()
        self._came_by_drop_in: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/cni", self._call),
            web.get("/v1/cni/calls", self._calls),
            web.post("/v1/cni/enrol-running", self._running),
        ]

    def begin(self, attachments: Attachments) -> None:
        """From here on containers can be attached."""
        self._attachments = attachments
        self._commands = self._serving(attachments)

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._bring_running()] if self._enrol_running else []

    def metrics(self) -> Collector:
        return self._seconds

    def _serving(self, containers: Attachments | Absent) -> Commands:
        return Commands(containers, self._namespaces.current, self._domain, self._log)

    async def _call(self, request: web.Request) -> web.Response:
        began = time.perf_counter()
        environment: dict[str, str] = {}
        command = ""
        text = b""
        try:
            environment, text = environment_and_input(await request.read())
            # No label of what a caller makes up.
            command = environment.get("CNI_COMMAND", "") if environment.get("CNI_COMMAND") in COMMANDS else ""
            configuration = configuration_of(text, command)
            invocation = invocation_of(environment, configuration)
            (self._came_by_drop_in if configuration.drop_in else self._came_inline).add(configuration.network)
            answer = _answer(_DONE, await self._commands.run(invocation))
            self._seconds.labels(command, 0).observe(time.perf_counter() - began)
            return answer
        except JfeError as error:
            fault = answer_to(error)
        except OSError as error:
            # Out of memory, descriptors or processes: what the kernel said of it.
            self._log.exception("call failed", extra=fields(error=str(error)))
            fault = answer_to(KernelError(f"{error}", "try again; see the agent's log"))
        self._seconds.labels(command, fault.code).observe(time.perf_counter() - began)
        self._log.warning(
            "call refused",
            extra=fields(
                command=environment.get("CNI_COMMAND"),
                container=environment.get("CNI_CONTAINERID"),
                code=fault.code,
                error=str(fault),
            ),
        )
        return _answer(_REFUSED, json.dumps(fault.as_json(spoken(version_of(text)))).encode())

    async def _calls(self, _: web.Request) -> web.Response:
        return web.json_response({"drop_in": sorted(self._came_by_drop_in), "inline": sorted(self._came_inline)})

    async def _running(self, _: web.Request) -> web.Response:
        return web.json_response(await self.enrol_all())

    async def _bring_running(self) -> None:
        """Again and again, until none is left out."""
        while True:
            pause = _POLL_SECONDS
            if self._attachments is not None and self._attachments.unable() is None:
                pause = _RETRY_SECONDS
                outcome = await self.enrol_all()
                level = logging.WARNING if outcome["failed"] else logging.INFO
                self._log.log(level, "running containers enrolled", extra=fields(**outcome))
                if not outcome["failed"]:
                    return
            await asyncio.sleep(pause)

    async def enrol_all(self) -> dict[str, list[str]]:
        """Who ran before: `enrolled` and `let_through` by container, `failed` with a sentence each."""
        outcome: dict[str, list[str]] = {"enrolled": [], "let_through": [], "failed": []}
        for each in await asyncio.to_thread(lambda: list(running(self._cache))):
            if isinstance(each, CniError):
                outcome["failed"].append(str(each))
                continue
            try:
                kind = await self._enrol_one(each)
            except JfeError as error:
                outcome["failed"].append(f"container {each.container.id}: {error}")
            else:
                if kind is not None:
                    outcome[kind].append(each.container.id)
        return outcome

    async def _enrol_one(self, each: Running) -> str | None:
        """What became of it; None where it was under cover already, or its namespace is gone."""
        if self._attachments is None:
            raise CniError(TRY_AGAIN_LATER, _NOT_READY, "try again")
        if self._attachments.holds(each.attachment) or not Path(each.namespace).exists():
            return None
        wish = (await self._namespaces.current()).wish(each.container.pod, each.annotations)
        if wish == "off":
            return "let_through"
        enrolment = self._commands.enrolment(each.namespace, each.container, wish)
        await self._attachments.attach(enrolment, each.container)
        if not each.record.exists():
            # Its DEL came after it was read and before it was attached.
            await self._attachments.detach(each.attachment)
            return None
        return "enrolled"


def _answer(status: int, body: bytes | None) -> web.Response:
    return web.Response(status=status, body=body or b"", content_type="application/json")
