"""The agent from start to end. `run` reads like a table of contents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from aiohttp import web
from prometheus_client.registry import Collector

from jfe_cni.agent import binaries, listening, log
from jfe_cni.agent.api import Api, bare_application, metrics_application
from jfe_cni.agent.attachments import Attachments
from jfe_cni.agent.issuer import Issuer, LocalIssuer
from jfe_cni.agent.log import fields
from jfe_cni.agent.node import Node
from jfe_cni.agent.settings import Settings
from jfe_cni.agent.upgrader import Command
from jfe_cni.errors import HostError, IdentityError, JfeError
from jfe_cni.identity.authority import open_authority
from jfe_cni.identity.spiffe import TrustDomain
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.kernel.nft import Nft

# How often an authority that can't be used is tried again.
_AUTHORITY_SECONDS = 1.0


class Extension(Protocol):
    """What else is served on the API's socket: a container runtime's side. `routes` are served before `begin`, too,
    while the agent waits for its authority. `metrics` are served beside the agent's."""

    def routes(self) -> list[web.RouteDef]: ...
    def begin(self, attachments: Attachments) -> None: ...
    def work(self) -> list[Coroutine[Any, Any, None]]: ...
    def metrics(self) -> Collector: ...


async def run(settings: Settings, extensions: Sequence[Extension] = ()) -> None:
    """Until SIGTERM or SIGINT. Raises JfeError where the agent can't start; then nothing of it is left."""
    logger = log.configure(settings.log_format)
    _require_root()
    stop = _stop_signals()
    async with contextlib.AsyncExitStack() as closing:
        closing.enter_context(listening.sole_agent(settings.state_dir))
        # What the host lacks is told before anything is made, an authority included.
        tree, nft = CgroupTree.found(), Nft()
        issuer = await _issuer(settings, extensions, stop, logger)
        if issuer is None:
            return
        closing.push_async_callback(issuer.close)
        async with _cgroup_for_upgrader(tree, settings) as cgroup:
            ground = KernelGround(nft, tree, _upgrader_cgroup(settings))
            await ground.prove_rules_match(settings.packet_mark)
            node = _node(settings, issuer, cgroup, tree, nft, ground, logger)
            closing.callback(node.close)
            await node.take_back()
        async with _served(settings, node, extensions, logger):
            logger.info("agent started", extra=fields(node=settings.node, socket=str(settings.socket)))
            await _until(stop, [*node.work(), *(work for each in extensions for work in each.work())])
        if settings.on_exit == "remove":
            await node.release_all()
            await asyncio.to_thread(cgroup.remove)
            node.forget()
    logger.info("agent ended", extra=fields(left=settings.on_exit))


@contextlib.asynccontextmanager
async def _cgroup_for_upgrader(tree: CgroupTree, settings: Settings) -> AsyncIterator[MadeCgroup]:
    """Gone again where the agent can't start in the body; one that a former agent left stays, for rules name it."""
    new = not tree.path(_upgrader_cgroup(settings)).exists()
    cgroup = await asyncio.to_thread(tree.create, _upgrader_cgroup(settings))
    try:
        yield cgroup
    except JfeError:
        if new:
            await asyncio.to_thread(cgroup.remove)
        raise


def _node(
    settings: Settings,
    issuer: Issuer,
    cgroup: MadeCgroup,
    tree: CgroupTree,
    nft: Nft,
    ground: KernelGround,
    logger: logging.Logger,
) -> Node:
    return Node(
        settings=settings,
        command=Command(
            program=binaries.find(named=settings.upgrader),
            control=settings.upgrader_socket,
            cgroup=cgroup.path,
            log=settings.upgrader_log,
            workers=settings.workers_on(len(os.sched_getaffinity(0))),
        ),
        issuer=issuer,
        exemption=tree.exemption(_upgrader_cgroup(settings)),
        nft=nft,
        ground=ground,
        clock=_now,
        log=logger,
    )


@contextlib.asynccontextmanager
async def _served(
    settings: Settings, node: Node, extensions: Sequence[Extension], logger: logging.Logger
) -> AsyncIterator[None]:
    """The API, and where it is wanted the metrics over TCP."""
    async with contextlib.AsyncExitStack() as ending:
        api = Api(node, node.views, node.connections, logger)
        for each in extensions:
            each.begin(node.attachments)
            node.include_metrics(each.metrics())
        application = api.application(route for each in extensions for route in each.routes())
        await ending.enter_async_context(_on_socket(settings, application))
        if settings.metrics_listen is not None:
            metrics = await listening.serve_tcp(metrics_application(node), settings.metrics_listen)
            ending.push_async_callback(metrics.cleanup)
        yield


@contextlib.asynccontextmanager
async def _on_socket(settings: Settings, application: web.Application) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as ending:
        listener = listening.unix_listener(settings.socket)
        ending.callback(settings.socket.unlink, missing_ok=True)
        runner = await listening.serve(application, listener)
        ending.push_async_callback(runner.cleanup)
        yield


async def _issuer(
    settings: Settings, extensions: Sequence[Extension], stop: asyncio.Event, logger: logging.Logger
) -> Issuer | None:
    """None where the agent was told to stop before there was one."""
    try:
        return await _open_issuer(settings, logger)
    except (IdentityError, HostError) as error:
        if not settings.wait_for_authority:
            raise
        why = str(error)
        logger.error("authority awaited", extra=fields(error=why))
    routes = [route for each in extensions for route in each.routes()]
    async with _on_socket(settings, bare_application(routes, lambda: why)):
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _AUTHORITY_SECONDS)
            try:
                return await _open_issuer(settings, logger)
            except (IdentityError, HostError) as error:
                why = str(error)
    return None


async def _open_issuer(settings: Settings, logger: logging.Logger) -> Issuer:
    domain = TrustDomain.parse(settings.trust_domain)
    if settings.ca is None:
        return LocalIssuer(open_authority(settings.authority_folder, domain, _now), _now)
    # Its client (HTTP, TLS) would slow the start of every other agent.
    from jfe_cni.agent.bundle_cache import BundleCache
    from jfe_cni.agent.ca_connection import CaConnection
    from jfe_cni.agent.remote_issuer import open_remote

    connection = CaConnection(settings.ca, settings.ca_credentials)
    cache = BundleCache(settings.bundle_file, f"{settings.ca.secret} at {settings.ca.url}", logger)
    return await open_remote(connection, settings.node, domain, cache, _now, logger)


async def _until(stop: asyncio.Event, working: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Everything that goes on by itself goes on until then. A fault that nobody foresaw ends the agent: the rules and
    the upgrader stay, and the next agent takes them over."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in working]
        await stop.wait()
        for task in tasks:
            task.cancel()


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _require_root() -> None:
    if os.geteuid() != 0:
        raise HostError("the agent needs root: it loads rules and enters namespaces", remedy="start it with sudo")


def _upgrader_cgroup(settings: Settings) -> str:
    return f"jfe/{settings.node}/upgrader"


def _now() -> datetime:
    return datetime.now(UTC)
