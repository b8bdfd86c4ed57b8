"""What the agent needs of this host beside rules, one verb a line: addresses, connections, cgroups, links, changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from jfe_cni.errors import CgroupGone, RequestError
from jfe_cni.kernel import links, sockets, watch
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.counters import counters
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.kernel.nft import Nft
from jfe_cni.kernel.prove import prove_rules_match
from jfe_cni.kernel.survey import Survey, survey
from jfe_cni.rules import host as host_rules
from jfe_cni.rules import namespace as namespace_rules
from jfe_cni.rules import passed
from jfe_cni.rules.model import Cgroup, ConnectionTuple, Mark
from jfe_cni.rules.passed import Passed


class KernelGround:
    """`upgrader`: the cgroup of the upgrader, below the v2 root (`jfe/NODE/upgrader`); it exists by then."""

    def __init__(self, nft: Nft, tree: CgroupTree, upgrader: str) -> None:
        self._nft = nft
        self._tree = tree
        self._upgrader = upgrader

    async def prove_rules_match(self, mark: Mark) -> None:
        """By a probe in a throw-away namespace. Raises RuleMatchError where rules load and do not match."""
        await prove_rules_match(self._nft, self._tree, self._upgrader, mark)

    async def survey(self, namespace: Namespace) -> Survey:
        """What it is like before it is touched."""
        return await survey(namespace)

    async def addresses(self, namespace: Namespace) -> frozenset[IPv4Address | IPv6Address]:
        """Global unicast addresses of all devices but the loopback."""
        return await links.addresses(namespace)

    async def connections(self, namespace: Namespace, cgroup_number: int | None) -> frozenset[ConnectionTuple]:
        """TCP connections to foreign addresses that are open now, of one cgroup and those below it or of all."""
        cgroups = None if cgroup_number is None else await self._numbers(cgroup_number)
        return await run_inside(namespace, partial(sockets.connections, cgroups))

    async def destroy(self, namespace: Namespace, connections: Iterable[ConnectionTuple]) -> None:
        """Both ends of each are reset; one that has ended meanwhile is done."""
        await run_inside(namespace, partial(sockets.destroy, tuple(connections)))

    async def listening(self, namespace: Namespace, cgroup_number: int) -> frozenset[int]:
        """Ports on which sockets made in the cgroup or below it listen."""
        found = await run_inside(namespace, partial(sockets.listening, await self._numbers(cgroup_number)))
        return frozenset(each.connection[1] for each in found)

    async def upgrader_listening(self, namespace: Namespace) -> frozenset[int]:
        """Ports on which the upgrader listens in `namespace`."""
        return await self.listening(namespace, self._tree.number(self._upgrader))

    async def listening_elsewhere(self, namespace: Namespace, cgroup_number: int, cgroup: str) -> frozenset[int]:
        """Ports on which the cgroup's processes listen on sockets that were made in another (socket activation)."""
        numbers = await self._numbers(cgroup_number)
        found = await run_inside(namespace, sockets.listening)
        made = MadeCgroup(self._tree.root, self._tree.path(cgroup))
        held = await asyncio.to_thread(_held_sockets, made)
        return frozenset(each.connection[1] for each in found if each.cgroup not in numbers and each.inode in held)

    async def passed(self, namespace: Namespace, workload: str | None) -> list[Passed]:
        """What the table of a workload with a namespace of its own, or that of all the host's workloads, has counted
        since it was loaded; nothing where there is no table."""
        table = host_rules.TABLE if workload is None else namespace_rules.TABLE
        return passed.read(await run_inside(namespace, partial(counters, table)), workload)

    def changes(self, namespace: Namespace) -> AsyncIterator[None]:
        """Something has changed in the namespace's rules, routes or devices; the first is for all before."""
        return watch.changes(namespace)

    async def close_link(self, namespace: Namespace) -> bool:
        """Nothing passes at the host's ends of the namespace's links; False where there is none to close."""
        found = await links.links(namespace)
        for link in found:
            await links.close_link(self._nft, link.outside)
        return bool(found)

    async def open_link(self, namespace: Namespace) -> None:
        """Undoes `close_link`."""
        await links.open_links(namespace)

    async def sweep_links(self, closed: Iterable[Namespace]) -> None:
        """Opens whatever was closed, of links that are there and of those that are gone, but those of `closed`."""
        await links.sweep(closed)

    def cgroup(self, path: str) -> tuple[Cgroup, int] | None:
        """The cgroup at an absolute path or one below the v2 root, with its number (inode); None: there is none."""
        try:
            return self._tree.cgroup(path), self._tree.number(path)
        except CgroupGone:
            return None

    async def unit_cgroup(self, unit: str) -> tuple[Cgroup, int] | None:
        """The cgroup of a running systemd unit."""
        if unit.startswith("-"):
            raise RequestError(f"{unit!r} is not a unit's name", "name one such as nginx.service")
        try:
            process = await asyncio.create_subprocess_exec(
                "systemctl", "show", "--property=ControlGroup", "--value", unit,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise RequestError("this host has no systemd", "name a cgroup or a namespace") from error
        out, _ = await process.communicate()
        found = out.decode().strip().lstrip("/")
        return self.cgroup(found) if found else None

    async def _numbers(self, cgroup_number: int) -> frozenset[int]:
        return await asyncio.to_thread(self._tree.numbers_below, cgroup_number)


def _held_sockets(cgroup: MadeCgroup) -> frozenset[int]:
    """The inodes of the sockets that processes of `cgroup` hold open."""
    found: set[int] = set()
    for pid in cgroup.processes():
        try:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return frozenset(found)
