"""From what a caller names to what it is: the namespace held open, the cgroup, the workload's id and identity."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from jfe_cni.agent.attachment import Container
from jfe_cni.agent.objects import Enrolment, Target
from jfe_cni.agent.roster import Record
from jfe_cni.agent.workload import Workload
from jfe_cni.errors import JfeError, NamespaceGone, RequestError
from jfe_cni.identity import spiffe
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.ground import KernelGround
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.kernel.processes import is_gone, network_namespace, number_at, processes
from jfe_cni.rules.model import Cgroup, check_workload


class Targets:
    def __init__(self, ground: KernelGround, domain: TrustDomain, node: str) -> None:
        self._ground = ground
        self._domain = domain
        self._node = node

    async def record_of(self, enrolment: Enrolment, container: Container | None = None) -> Record:
        """The record of a workload that is about to be enrolled. Raises NamespaceGone, RequestError, HostError."""
        target = enrolment.target
        name = check_workload(enrolment.name or default_name(target))
        workload = Workload(
            id=name,
            target=target,
            mode=enrolment.mode,
            identity=str(self._identity(enrolment, name)),
            settings=enrolment.settings,
            container=container,
        )
        return await self._found(workload)

    async def taken_back(self, workload: Workload) -> Record:
        """The record of a workload that a former agent enrolled. Raises NamespaceGone where it is there no more."""
        if workload.shape == "host":
            return Record(workload, Namespace.own())
        with contextlib.suppress(NamespaceGone, RequestError):
            namespace = _open(workload.target)
            if _number(namespace) == workload.namespace:
                return Record(workload, namespace)
            namespace.close()
        # The process that was named may be gone while others of the same namespace go on.
        namespace = _search(workload)
        return Record(workload, namespace)

    def found_by_name(self, record: Record) -> bool:
        """Whether a namespace is where it was enrolled. One that was found by its number may be another: the kernel
        gives numbers again."""
        return number_at(_path(record.workload.target)) == record.workload.namespace

    async def cgroup_of(self, target: Target) -> tuple[Cgroup, int] | None:
        """Cgroup and its number, where it is there now."""
        if target.kind == "unit":
            return await self._ground.unit_cgroup(target.value)
        return self._ground.cgroup(target.value)

    def cgroup_again(self, workload: Workload) -> tuple[Cgroup, int] | None:
        """As `cgroup_of`, where it was found before: a unit that restarts keeps its path."""
        return None if workload.cgroup is None else self._ground.cgroup(str(NFT_ROOT / workload.cgroup.path))

    def made_for_one_run(self, workload: Workload) -> bool:
        """Whether its cgroup was made by `jfe run`: when that is gone, it never comes back."""
        return workload.cgroup is not None and f"jfe/{self._node}/run/" in workload.cgroup.path

    async def _found(self, workload: Workload) -> Record:
        if workload.shape == "namespace":
            namespace = _open(workload.target)
            try:
                _refuse_whole_host(namespace, workload.target)
                return Record(dataclasses.replace(workload, namespace=_number(namespace)), namespace)
            except JfeError:
                namespace.close()
                raise
        found = await self.cgroup_of(workload.target)
        if found is None:
            kind, value = workload.target.kind, workload.target.value
            raise RequestError(f"there is no {kind} {value}", remedy="start it first, or mend the name")
        cgroup, number = found
        return Record(dataclasses.replace(workload, cgroup=cgroup, cgroup_number=number), Namespace.own())

    def _identity(self, enrolment: Enrolment, name: str) -> SpiffeId:
        if enrolment.identity is not None:
            identity = SpiffeId.parse(enrolment.identity)
            if identity.domain != self._domain:
                raise RequestError(
                    f"{identity} is of another trust domain than {self._domain}",
                    remedy="choose an identity of this trust domain",
                )
            return identity
        match enrolment.target.kind:
            case "unit":
                return spiffe.host_unit(self._domain, self._node, enrolment.target.value)
            case "cgroup":
                return spiffe.host_run(self._domain, self._node, name)
            case "netns" | "pid":
                return spiffe.host_namespace(self._domain, self._node, name)


def default_name(target: Target) -> str:
    """A workload's id from what it is: the last part of a path or unit in the letters that an id takes."""
    base = target.value.rstrip("/").rpartition("/")[2] if target.kind != "pid" else f"pid-{target.value}"
    name = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")[:64].strip("-")
    return name or target.kind


def vanished(records: Iterable[Record]) -> set[Record]:
    """Those in whose own namespace nothing is left, and nothing leads there: only the agent holds it.

    A file that still mounts it, or a process in it, keeps it. Reads /proc once at most, however many there are."""
    suspects = {
        record.workload.namespace: record
        for record in records
        if record.workload.shape == "namespace" and not _still_named(record.workload)
    }
    kept = set(map(network_namespace, processes())) if suspects else set()
    return {record for key, record in suspects.items() if key not in kept}


def _still_named(workload: Workload) -> bool:
    named = _path(workload.target)
    found = number_at(named)
    return not is_gone(named) if found is None else found == workload.namespace


def _path(target: Target) -> str:
    return target.value if target.kind == "netns" else f"/proc/{target.value}/ns/net"


def _open(target: Target) -> Namespace:
    return Namespace.open_pid(int(target.value)) if target.kind == "pid" else Namespace.open_path(target.value)


def _search(workload: Workload) -> Namespace:
    process = _process_in(workload)
    if process is None:
        raise NamespaceGone(f"the namespace of {workload.id} is gone")
    return Namespace.open_pid(process)


def _process_in(workload: Workload) -> int | None:
    return next((int(process) for process in processes() if network_namespace(process) == workload.namespace), None)


def _number(namespace: Namespace) -> tuple[int, int]:
    return namespace.identity.device, namespace.identity.inode


def _refuse_whole_host(namespace: Namespace, target: Target) -> None:
    """The namespace of the whole host is no workload: nothing on it could reach anything bare any more.

    That of the host's first process can't always be seen (a container sees its own). The agent's own is taken for it,
    unless it is asked for by a name that somebody gave it: then it is one of several hosts on one kernel."""
    first = network_namespace("1") == _number(namespace)
    own = network_namespace("self") == _number(namespace)
    named = target.kind == "netns" and not Path(target.value).is_relative_to("/proc")
    if first or (own and not named):
        raise RequestError(
            f"{namespace.origin} is the host's own namespace",
            remedy="enrol single commands (jfe run), units (--unit) or cgroups of the host instead",
        )
