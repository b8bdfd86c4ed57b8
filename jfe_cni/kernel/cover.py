"""What the agent asks of the kernel: to put a workload under cover, to see that it is, to release it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from jfe_cni.errors import CgroupGone, JfeError
from jfe_cni.kernel import routing, sysctl
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.namespace import Namespace, NamespaceIdentity, run_inside
from jfe_cni.kernel.nft import WORKLOAD_WORDS, Nft, table_comment
from jfe_cni.rules import host, namespace
from jfe_cni.rules.model import Former, HostIntent, Mark, NamespaceIntent, Ruleset


@dataclass(frozen=True)
class Tagged:
    """One object of ours in the kernel: `kind` is "table", "policy rule" or "route"; `what` is its name or selector."""

    kind: str
    what: str
    workloads: tuple[str, ...]


@dataclass(frozen=True)
class _Loaded:
    """What the kernel said it had right after `ruleset` was loaded."""

    ruleset: Ruleset
    listing: str


class Cover:
    """Every method raises JfeError, and has then undone whatever it did. One call at a time for one namespace."""

    def __init__(self, nft: Nft | None = None) -> None:
        self._nft = nft or Nft()
        self._loaded: dict[NamespaceIdentity, _Loaded] = {}

    async def enrolled_as(self, where: Namespace) -> str | None:
        """The workload that the namespace's table is tagged with, be it whole or a mere record of what was before."""
        listing = await self._nft.listing(namespace.FAMILY, namespace.TABLE, where)
        found = None if listing is None else WORKLOAD_WORDS.match(table_comment(listing))
        return None if found is None else found.group(1)

    async def install_namespace(self, intent: NamespaceIntent, where: Namespace) -> None:
        """Rules, policy routing and sysctls of one workload; replaces what an earlier intent left there.

        Where there was an earlier one and the new one fails, the earlier one is still whole."""
        former = await self._former(where)
        new = former is None
        if former is None:
            former = await run_inside(where, _read_former)
            await self._nft.load(namespace.record_ruleset(intent.workload, former), where)
        try:
            await run_inside(where, partial(_prepare, intent.mark))
            await self._load(namespace.namespace_ruleset(intent, former), where)
        except (JfeError, asyncio.CancelledError):
            if new:
                await asyncio.shield(self.remove_namespace(where, intent.mark))
            raise

    async def check_namespace(self, intent: NamespaceIntent, where: Namespace) -> tuple[str, ...]:
        """What is not as `intent` wants it, in words; empty: whole.

        An agent that did not load the rules itself has nothing to compare with and says so: install again."""
        former = await self._former(where)
        wanted = namespace.namespace_ruleset(intent, former)
        return (
            *await self._amiss(wanted, where),
            *await run_inside(where, partial(_namespace_amiss, intent.mark)),
        )

    async def remove_namespace(self, where: Namespace, mark: Mark) -> None:
        """Leave rules, routes and sysctls as before the enrolment; done already is done."""
        former = await self._former(where)
        self._loaded.pop(where.identity, None)
        # Routes go before the table, which holds the record of what was before, and while it is there nothing leaks.
        await run_inside(where, partial(_undo, mark, former))
        await self._nft.delete(namespace.FAMILY, namespace.TABLE, where)

    async def install_host(self, intent: HostIntent) -> None:
        """Rules and policy routing of all workloads of this process's own namespace, in place of what is there.

        CgroupGone names a cgroup that is away: leave its workload out. No sysctl is changed."""
        for cgroup in (intent.exemption, *(workload.cgroup for workload in intent.workloads)):
            if not (NFT_ROOT / cgroup.path).is_dir():
                raise CgroupGone(f"there is no cgroup {cgroup.path}", "see whether its workload still runs")
        with Namespace.own() as own:
            new = await self._nft.listing(host.FAMILY, host.TABLE) is None
            try:
                await run_inside(own, partial(routing.ensure, intent.mark))
                await self._load(host.host_ruleset(intent), own)
            except (JfeError, asyncio.CancelledError):
                if new:
                    await asyncio.shield(self.remove_host(intent.mark))
                raise

    async def check_host(self, intent: HostIntent) -> tuple[str, ...]:
        """As `check_namespace`, for the host's workloads."""
        with Namespace.own() as own:
            return (
                *await self._amiss(host.host_ruleset(intent), own),
                *await run_inside(own, partial(routing.amiss, intent.mark)),
            )

    async def remove_host(self, mark: Mark) -> None:
        """No table, no policy rule, no route; done already is done."""
        with Namespace.own() as own:
            self._loaded.pop(own.identity, None)
            await self._nft.delete(host.FAMILY, host.TABLE, own)
            await run_inside(own, partial(routing.remove, mark))

    async def list_tagged(self, where: Namespace | None = None, mark: Mark | None = None) -> tuple[Tagged, ...]:
        """All of ours in `where` (absent: this process's own): tables, and the routing of `mark`."""
        with Namespace.own() as own:
            here = where or own
            tables = [
                Tagged("table", f"{table.family} {table.name}", table.workloads)
                for table in await self._nft.tables(here)
            ]
            routes = await run_inside(here, partial(routing.listed, mark or Mark()))
        return (*tables, *(Tagged(kind, what, ()) for kind, what in routes))

    async def _load(self, ruleset: Ruleset, where: Namespace) -> None:
        await self._nft.load(ruleset, where)
        listing = await self._nft.listing(ruleset.family, ruleset.table, where)
        self._loaded[where.identity] = _Loaded(ruleset, listing or "")

    async def _amiss(self, wanted: Ruleset, where: Namespace) -> tuple[str, ...]:
        listing = await self._nft.listing(wanted.family, wanted.table, where)
        known = self._loaded.get(where.identity)
        if listing is None:
            return (f"the table {wanted.family} {wanted.table} is missing",)
        if known is None or known.ruleset.text != wanted.text:
            return (f"the table {wanted.family} {wanted.table} is not the one that is wanted",)
        if listing != known.listing:
            return (f"the table {wanted.family} {wanted.table} has been changed",)
        return ()

    async def _former(self, where: Namespace) -> Former | None:
        listing = await self._nft.listing(namespace.FAMILY, namespace.TABLE, where)
        return None if listing is None else Former.parse(table_comment(listing))


def _read_former() -> Former:
    return sysctl.read_former(loopback_up=routing.loopback_up())


def _prepare(mark: Mark) -> None:
    sysctl.set_all()
    # A route needs its device up, and all that is marked goes over the loopback.
    routing.set_loopback(up=True)
    routing.ensure(mark)


def _undo(mark: Mark, former: Former | None) -> None:
    routing.remove(mark)
    if former is not None:
        sysctl.restore(former)
        if not former.loopback_up:
            routing.set_loopback(up=False)


def _namespace_amiss(mark: Mark) -> tuple[str, ...]:
    return (*sysctl.amiss(), *routing.amiss(mark))
