"""ADD, DEL, CHECK, GC and STATUS, each from a call to what the runtime is answered (CNI SPEC 1.1, section 2)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from jfe_cni.agent.attachment import Attachment, Container, Pod
from jfe_cni.agent.log import fields
from jfe_cni.agent.objects import Enrolment, Target
from jfe_cni.cni.faults import (
    COLLECTION_FAILED,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    NOT_COVERED,
    TRY_AGAIN_LATER,
    UNAVAILABLE,
    UNAVAILABLE_AND_LIMITED,
    CniError,
)
from jfe_cni.cni.invocation import Invocation
from jfe_cni.cni.namespaces import Namespaces, Wish
from jfe_cni.cni.versions import minimal_result
from jfe_cni.errors import JfeError, NamespaceGone, RequestError
from jfe_cni.identity import spiffe
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.kernel.namespace import Namespace

Result = bytes | None
"""What goes to standard output; None: nothing."""


class Containers(Protocol):
    """As `jfe_cni.agent.attachments.Attachments`."""

    async def attach(self, enrolment: Enrolment, container: Container) -> None: ...
    async def detach(self, attachment: Attachment) -> None: ...
    async def amiss(self, attachment: Attachment) -> tuple[str, ...] | None: ...
    def of_network(self, network: str) -> list[Attachment]: ...
    def unable(self) -> tuple[str, bool] | None: ...


class Absent:
    """The containers of an agent that is not ready: none is taken in, and what there is to release is swept later."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def attach(self, enrolment: Enrolment, container: Container) -> None:
        raise CniError(TRY_AGAIN_LATER, self._why, "the runtime tries again by itself; see the agent's log")

    async def detach(self, attachment: Attachment) -> None:
        """The namespace goes with its container, and what is known of it when the agent is ready."""

    async def amiss(self, attachment: Attachment) -> tuple[str, ...] | None:
        raise CniError(TRY_AGAIN_LATER, self._why, "see the agent's log")

    def of_network(self, network: str) -> list[Attachment]:
        return []

    def unable(self) -> tuple[str, bool] | None:
        return self._why, False


class Commands:
    """`namespaces` gives what the namespaces ask for and allow at the moment."""

    def __init__(
        self,
        containers: Containers,
        namespaces: Callable[[], Awaitable[Namespaces]],
        domain: TrustDomain,
        log: logging.Logger,
    ) -> None:
        self._containers = containers
        self._namespaces = namespaces
        self._domain = domain
        self._log = log

    async def run(self, invocation: Invocation) -> Result:
        """Raises JfeError; `faults.answer_to` is what the runtime hears of it."""
        match invocation.command:
            case "ADD":
                return await self._add(invocation)
            case "DEL":
                # Whoever asked may go away meanwhile: it wants the same all the same.
                await asyncio.shield(self._containers.detach(invocation.attachment))
            case "CHECK":
                await self._check(invocation)
            case "GC":
                await asyncio.shield(self._collect(invocation))
            case _:
                await self._status()
        return None

    async def _add(self, invocation: Invocation) -> Result:
        wish = (await self._namespaces()).wish(invocation.pod, invocation.configuration.annotations)
        if wish == "off":
            self._log.info("let through", extra=fields(**_named(invocation)))
        else:
            check_namespace(invocation.namespace)
            container = Container((invocation.attachment,), invocation.pod, invocation.configuration.cgroup)
            try:
                await self._containers.attach(self.enrolment(invocation.namespace, container, wish), container)
            except NamespaceGone as error:
                # Not code 3, by which the runtime would leave what the plugins before this one have made.
                raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS: {error.message}", error.remedy) from error
        previous = invocation.configuration.previous
        return (
            previous if previous is not None else json.dumps(minimal_result(invocation.configuration.version)).encode()
        )

    async def _check(self, invocation: Invocation) -> None:
        amiss = await self._containers.amiss(invocation.attachment)
        if amiss is None:
            wish = (await self._namespaces()).wish(invocation.pod, invocation.configuration.annotations)
            if wish != "off":
                raise CniError(
                    NOT_COVERED,
                    f"{invocation.interface} of container {invocation.container} is not under cover: "
                    "its ADD never came, or was undone",
                    "bring it under cover with `jfe enroll --all`, or start the pod anew",
                )
        elif amiss:
            raise CniError(NOT_COVERED, f"not as ADD left it: {amiss[0]}", "; ".join(amiss))

    async def _collect(self, invocation: Invocation) -> None:
        valid = invocation.configuration.valid
        if valid is None:
            raise CniError(
                INVALID_CONFIGURATION, "GC came without cni.dev/valid-attachments", "nothing is collected without"
            )
        stale = [
            each
            for each in self._containers.of_network(invocation.configuration.network)
            if (each.container, each.interface) not in valid
        ]
        failures = []
        for each in stale:
            try:
                await self._containers.detach(each)
            except JfeError as error:
                failures.append(f"{each.interface} of container {each.container}: {error}")
        if failures:
            raise CniError(
                COLLECTION_FAILED,
                f"{len(failures)} of {len(stale)} attachments could not be collected",
                "; ".join(failures),
            )

    async def _status(self) -> None:
        try:
            await self._namespaces()
        except CniError as error:
            raise CniError(UNAVAILABLE, error.message, error.remedy) from error
        unable = self._containers.unable()
        if unable is not None:
            why, suffering = unable
            raise CniError(
                UNAVAILABLE_AND_LIMITED if suffering else UNAVAILABLE, why, "see `jfe status` and the agent's log"
            )

    def enrolment(self, namespace: str, container: Container, wish: Wish) -> Enrolment:
        """What the agent is asked for: `namespace` is the file of the container's."""
        pod = container.pod
        return Enrolment(
            target=Target("netns", namespace),
            mode=wish.mode,
            name=workload_name(container),
            identity=None if pod is None else str(spiffe.pod(self._domain, pod.namespace, pod.name)),
            settings=wish.settings,
        )


def check_namespace(path: str) -> None:
    """Raises CniError that names the variable (CNI SPEC, code 4)."""
    try:
        Namespace.open_path(path).close()
    except (NamespaceGone, RequestError, ValueError) as error:
        raise CniError(
            INVALID_ENVIRONMENT, f"CNI_NETNS: {error}", "it is the file of the container's network namespace"
        ) from error


def workload_name(container: Container) -> str:
    """For people its beginning, for the rest its end: two containers never share a name, and one keeps its own."""
    digest = hashlib.sha256(container.id.encode(errors="replace"))
    return f"{_legible(container.pod, container.id)}-{digest.hexdigest()[:12]}"


def _legible(pod: Pod | None, container: str) -> str:
    text = container[:12] if pod is None else f"{pod.namespace}-{pod.name}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-") or "container"


def _named(invocation: Invocation) -> dict[str, object]:
    pod = invocation.pod
    return {
        "container": invocation.container,
        "interface": invocation.interface,
        "pod": None if pod is None else f"{pod.namespace}/{pod.name}",
    }
