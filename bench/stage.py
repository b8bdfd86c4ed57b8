"""Pairs of hosts, one for each kind of cover, all at the same time: rounds can go from one to the other."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

from bench.cover import COVERED, RELAY, cover
from bench.cover import Variant as Cover
from bench.haproxy import FULL, RESUMED, haproxy, make_keys
from bench.haproxy import Variant as Haproxy
from bench.machine import set_congestion_control
from bench.node import Node, node
from bench.way import SERVER_PORT, Way, start_server
from jfe_cni.demo.hosts import Host, two_hosts
from jfe_cni.demo.programs import Program, Programs

PLAIN = "plaintext"


class Stage:
    """Makes ways; what it made is gone when `async with` ends. `congestion`: TCP's in all hosts; None: this host's."""

    def __init__(self, folder: Path, congestion: str | None = None) -> None:
        self._folder = folder
        self._congestion = congestion
        self._numbers = itertools.count()
        self._made = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._made.aclose()

    async def ways(self, wanted: frozenset[str]) -> dict[str, Way]:
        """Those of the ways with these names; plaintext and both haproxies share a pair of hosts."""
        found: dict[str, Way] = {}
        bare = wanted & {PLAIN, FULL.name, RESUMED.name}
        if bare:
            found |= await self._made.enter_async_context(self._bare(bare))
        for variant in (COVERED, RELAY):
            if variant.name in wanted:
                found[variant.name] = await self._made.enter_async_context(self.covered(variant))
        return found

    @contextlib.asynccontextmanager
    async def covered(self, variant: Cover) -> AsyncIterator[Way]:
        async with self._hosts() as (programs, client, server, application, folder):
            yield await cover(variant, programs, client, server, application, folder)

    @contextlib.asynccontextmanager
    async def haproxy(self, variant: Haproxy) -> AsyncIterator[Way]:
        async with self._bare(frozenset({variant.name})) as ways:
            yield ways[variant.name]

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[Node]:
        """One of its own, without an agent."""
        name = f"jfe-bench-{os.getpid()}-{next(self._numbers)}"
        async with node(self._folder / name, name) as made:
            yield made

    @contextlib.asynccontextmanager
    async def _bare(self, wanted: frozenset[str]) -> AsyncIterator[dict[str, Way]]:
        async with self._hosts() as (programs, client, server, application, folder):
            make_keys(folder)
            ways = {PLAIN: Way(PLAIN, client, application, programs, f"{server.address}:{SERVER_PORT}", list)}
            for variant in (FULL, RESUMED):
                if variant.name in wanted:
                    ways[variant.name] = await haproxy(variant, programs, client, server, application, folder)
            yield {name: way for name, way in ways.items() if name in wanted}

    @contextlib.asynccontextmanager
    async def _hosts(self) -> AsyncIterator[tuple[Programs, Host, Host, Program, Path]]:
        name = f"jfe-bench-{os.getpid()}-{next(self._numbers)}"
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        async with two_hosts(name, folder) as (client, server), Programs(name, folder) as programs:
            if self._congestion is not None:
                for host in (client, server):
                    set_congestion_control(host.namespace, self._congestion)
            yield programs, client, server, await start_server(programs, server), folder
