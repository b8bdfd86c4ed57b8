"""What the agent asks of the kernel: to put a workload under cover, to see that it is, to release it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

from jfe_cni.errors import CgroupGone, JfeError
from jfe_cni.kernel import routing, sysctl, tables
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.forms import Forms
from jfe_cni.kernel.loading import Loader
from jfe_cni.kernel.namespace import Namespace, NamespaceIdentity, run_inside
from jfe_cni.kernel.nft import Nft, Run
from jfe_cni.kernel.survey import enrolled_as
from jfe_cni.kernel.tables import TableState
from jfe_cni.rules import host, namespace
from jfe_cni.rules.model import Former, HostIntent, Mark, NamespaceIntent, Proof, Ruleset


@dataclass(frozen=True)
class Tagged:
    """One object of ours in the kernel: `kind` is "table", "policy rule" or "route"; `what` is its name or selector."""

    kind: str
    what: str
    workloads: tuple[str, ...]


@dataclass(frozen=True)
class _Loaded:
    """What was wanted, told by its digest, and what the kernel had right after it was loaded."""

    wanted: str
    state: TableState


@dataclass(frozen=True)
class Prepared:
    """`former`: what the namespace was like before anything of ours. `recorded`: the generation in which its table has
    nothing but the record of that; None: there was a table of ours before. `routed`: all of the policy routing is new,
    so that nothing of it can be another's."""

    former: Former
    recorded: int | None
    routed: bool


@dataclass
class _Beginning:
    """What an installation that is under way has found: `new`, nothing of ours was there before."""

    new: bool = False


class Cover:
    """Every method raises JfeError, and has then undone whatever it did. One call at a time for one namespace."""

    def __init__(self, nft: Nft | None = None, forms: Forms | None = None) -> None:
        self._nft = nft or Nft()
        self._loader = Loader(forms or Forms())
        # Digests and not texts: there is one of these for each pod of the node.
        self._loaded: dict[NamespaceIdentity, _Loaded] = {}

    async def enrolled_as(self, where: Namespace) -> str | None:
        """The workload that the namespace's table is tagged with, be it whole or a mere record of what was before."""
        return await run_inside(where, enrolled_as)

    async def prepare_namespace(self, workload: str, mark: Mark, where: Namespace) -> Prepared:
        """All of `install_namespace` but the rules, and nothing that has an effect without them: it can be done while
        their ports are not known yet."""
        beginning = _Beginning()
        try:
            return await run_inside(where, partial(_prepare, workload, mark, beginning))
        except (JfeError, asyncio.CancelledError):
            if beginning.new:
                await asyncio.shield(self.remove_namespace(where, mark))
            raise

    async def install_namespace(
        self, intent: NamespaceIntent, where: Namespace, prepared: Prepared | None = None
    ) -> tuple[str, ...]:
        """Rules, policy routing and sysctls of one workload; replaces what an earlier intent left there. What is not as
        it should be afterwards, in words.

        Where there was an earlier one and the new one fails, the earlier one is still whole."""
        beginning, run = _Beginning(), self._nft.run()
        try:
            install = partial(_install_namespace, intent, prepared, self._loader, run, beginning)
            loaded, amiss = await run_inside(where, install, run.end)
        except (JfeError, asyncio.CancelledError):
            if beginning.new:
                await asyncio.shield(self.remove_namespace(where, intent.mark))
            raise
        self._loaded[where.identity] = loaded
        return amiss

    async def check_namespace(self, intent: NamespaceIntent, where: Namespace) -> tuple[str, ...]:
        """What is not as `intent` wants it, in words; empty: whole. Devices that came since get their routes.

        An agent that did not load the rules itself has nothing to compare with unless it is told (`believe`)."""
        seen, amiss = await run_inside(where, partial(_check_namespace, intent, self._loaded.get(where.identity)))
        if seen is not None:
            self._loaded[where.identity] = seen
        return amiss

    def proof(self, where: Namespace) -> Proof | None:
        """By which another agent can tell that the rules are still those that this one loaded."""
        loaded = self._loaded.get(where.identity)
        return None if loaded is None else Proof(loaded.wanted, loaded.state.digest)

    def believe(self, where: Namespace, proof: Proof) -> None:
        """A former agent loaded what `proof` says."""
        self._loaded[where.identity] = _Loaded(proof.wanted, TableState(tables.UNSEEN, proof.found))

    async def remove_namespace(self, where: Namespace, mark: Mark) -> None:
        """Leave rules, routes and sysctls as before the enrolment; done already is done."""
        self._loaded.pop(where.identity, None)
        await run_inside(where, partial(_remove_namespace, mark))

    async def install_host(self, intent: HostIntent) -> tuple[str, ...]:
        """Rules and policy routing of all workloads of this process's own namespace, in place of what is there; what of
        them is not as it should be afterwards.

        CgroupGone names a cgroup that is away: leave its workload out. No sysctl is changed."""
        for cgroup in (intent.exemption, *(workload.cgroup for workload in intent.workloads)):
            if not (NFT_ROOT / cgroup.path).is_dir():
                raise CgroupGone(f"there is no cgroup {cgroup.path}", "see whether its workload still runs")
        with Namespace.own() as own:
            beginning, run = _Beginning(), self._nft.run()
            try:
                install = partial(_install_host, intent, self._loader, run, beginning)
                loaded, amiss = await run_inside(own, install, run.end)
            except (JfeError, asyncio.CancelledError):
                if beginning.new:
                    await asyncio.shield(self.remove_host(intent.mark))
                raise
            self._loaded[own.identity] = loaded
            return amiss

    async def check_host(self, intent: HostIntent) -> tuple[str, ...]:
        """As `check_namespace`, for the host's workloads."""
        with Namespace.own() as own:
            seen, amiss = await run_inside(own, partial(_check_host, intent, self._loaded.get(own.identity)))
            if seen is not None:
                self._loaded[own.identity] = seen
            return amiss

    async def remove_host(self, mark: Mark) -> None:
        """No table, no policy rule, no route; done already is done."""
        with Namespace.own() as own:
            self._loaded.pop(own.identity, None)
            await run_inside(own, partial(_remove_host, mark))

    async def list_tagged(self, where: Namespace | None = None, mark: Mark | None = None) -> tuple[Tagged, ...]:
        """All of ours in `where` (absent: this process's own): tables, and the routing of `mark`."""
        with Namespace.own() as own:
            here = where or own
            found = [
                Tagged("table", f"{table.family} {table.name}", table.workloads)
                for table in await self._nft.tables(here)
            ]
            routes = await run_inside(here, partial(routing.listed, mark or Mark()))
        return (*found, *(Tagged(kind, what, ()) for kind, what in routes))


# What follows runs on a thread that has entered the namespace: one visit for each of the methods above.


def _prepare(workload: str, mark: Mark, beginning: _Beginning) -> Prepared:
    former, recorded = _former(), None
    if former is None:
        beginning.new = True
        former = sysctl.read_former(loopback_up=routing.loopback_up())
        recorded = _record(namespace.record(workload, former))
    sysctl.set_all()
    # A route needs its device up, and all that is marked goes over the loopback.
    routing.set_loopback(up=True)
    return Prepared(former, recorded, routed=routing.ensure(mark))


def _install_namespace(
    intent: NamespaceIntent, prepared: Prepared | None, loader: Loader, run: Run, beginning: _Beginning
) -> tuple[_Loaded, tuple[str, ...]]:
    ready = prepared or _prepare(intent.workload, intent.mark, beginning)
    beginning.new = ready.recorded is not None
    ruleset = namespace.namespace_ruleset(intent, ready.former)
    if ready.recorded is None or intent.bare:
        # A form of bare connections would serve nobody else.
        state = loader.load(ruleset, run, ready.recorded)
    else:
        state = loader.fill(ruleset, run, ready.recorded, intent.exemption)
    # What the kernel has just taken need not be asked for again: that is a tenth of an installation.
    amiss = () if ready.routed else _namespace_amiss(intent.mark)
    return _Loaded(_digest(ruleset), state), amiss


def _record(comment: str) -> int:
    """Ahead of the first change, so that none goes unrecorded. The generation in which the table has nothing else."""
    if tables.comment(namespace.FAMILY, namespace.TABLE) is not None:
        tables.delete(namespace.FAMILY, namespace.TABLE)
    before = tables.generation()
    tables.record(namespace.FAMILY, namespace.TABLE, comment)
    return before + 1


def _check_namespace(intent: NamespaceIntent, known: _Loaded | None) -> tuple[_Loaded | None, tuple[str, ...]]:
    seen, amiss = _seen(lambda: namespace.namespace_ruleset(intent, _former()), known)
    return seen, (*amiss, *_namespace_amiss(intent.mark))


def _remove_namespace(mark: Mark) -> None:
    former = _former()
    # Routes go before the table, which holds the record of what was before, and while it is there nothing leaks.
    routing.remove(mark)
    if former is not None:
        sysctl.restore(former)
        if not former.loopback_up:
            routing.set_loopback(up=False)
    tables.delete(namespace.FAMILY, namespace.TABLE)


def _install_host(
    intent: HostIntent, loader: Loader, run: Run, beginning: _Beginning
) -> tuple[_Loaded, tuple[str, ...]]:
    beginning.new = tables.comment(host.FAMILY, host.TABLE) is None
    routing.ensure(intent.mark)
    ruleset = host.host_ruleset(intent)
    return _Loaded(_digest(ruleset), loader.load(ruleset, run)), routing.follow(intent.mark)


def _check_host(intent: HostIntent, known: _Loaded | None) -> tuple[_Loaded | None, tuple[str, ...]]:
    seen, amiss = _seen(lambda: host.host_ruleset(intent), known)
    return seen, (*amiss, *routing.follow(intent.mark))


def _remove_host(mark: Mark) -> None:
    tables.delete(host.FAMILY, host.TABLE)
    routing.remove(mark)


def _seen(wanted: Callable[[], Ruleset], known: _Loaded | None) -> tuple[_Loaded | None, tuple[str, ...]]:
    """What is known of the table now, None where that can't be told anew, and what is amiss with it."""
    ruleset = wanted()
    table = f"the table {ruleset.family} {ruleset.table}"
    state = tables.state(ruleset.family, ruleset.table, None if known is None else known.state)
    if state is None:
        return None, (f"{table} is missing",)
    if known is None or known.wanted != _digest(ruleset):
        return None, (f"{table} is not the one that is wanted",)
    if tables.CHANGED in (state.digest, known.state.digest) or state.digest != known.state.digest:
        return None, (f"{table} has been changed",)
    return _Loaded(known.wanted, state), ()


def _digest(ruleset: Ruleset) -> str:
    return blake2b(ruleset.text.encode(), digest_size=tables.DIGEST).hexdigest()


def _former() -> Former | None:
    comment = tables.comment(namespace.FAMILY, namespace.TABLE)
    return None if comment is None else Former.parse(comment)


def _namespace_amiss(mark: Mark) -> tuple[str, ...]:
    return (*sysctl.amiss(), *routing.follow(mark))
