"""Who is enrolled on this node: one record a workload, saved at each change."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from jfe_cni.agent import lent_ports
from jfe_cni.agent.faults import UnknownWorkloadError
from jfe_cni.agent.reports import AttachmentReport, Bare, PassedReport, PodReport, WorkloadReport
from jfe_cni.agent.state_file import StateFile
from jfe_cni.agent.workload import Event, Workload, same_thing
from jfe_cni.errors import ConflictError, HostError, JfeError
from jfe_cni.kernel.namespace import Namespace


@dataclass(eq=False)
class Record:
    """`workload` is replaced as it changes, `namespace` held open; whoever changes the kernel for it holds `lock`."""

    workload: Workload
    namespace: Namespace
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # What of the rules was found missing when they were last looked at.
    missing: tuple[str, ...] = ()
    # Whether this agent has loaded the rules itself, or has proved that they are what a former agent loaded.
    loaded: bool = False
    # Whether its link is, or may be, closed. Kept here and not in the state: a new agent takes each link for closed.
    link_closed: bool = False
    # Lent ports (`lent_ports.py`) that are another workload's, by that one's id.
    yielded_ports: dict[int, str] = field(default_factory=dict)
    # Why its certificate could not be replaced, until one is.
    uncertified: str | None = None
    hazards: tuple[str, ...] = ()
    # Whether something has happened in its namespace since its addresses were last looked at.
    stirred: bool = True
    # As of when somebody last asked.
    passed: tuple[PassedReport, ...] = ()


class Roster:
    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._records: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        """Over a copy: it may change meanwhile."""
        return iter(list(self._records.values()))

    def get(self, workload: str) -> Record:
        record = self._records.get(workload)
        if record is None:
            raise UnknownWorkloadError.named(workload)
        return record

    def holds(self, record: Record) -> bool:
        return self._records.get(record.workload.id) is record

    def host(self) -> list[Record]:
        return [record for record in self if record.workload.shape == "host"]

    def add(self, record: Record) -> None:
        """From here on a second enrolment of the same name, namespace or cgroup is a ConflictError."""
        new = record.workload
        for other in self:
            if other.workload.id == new.id or same_thing(other.workload, new):
                raise ConflictError(
                    f"{_thing(new)} is enrolled already, as {other.workload.id} ({other.workload.state.value})",
                    remedy=f"unenrol it first: jfe unenroll {other.workload.id}",
                )
        self._records[new.id] = record

    def remove(self, record: Record) -> None:
        if self.holds(record):
            del self._records[record.workload.id]

    def put(self, record: Record, workload: Workload) -> None:
        """What is known of a workload has changed. Raises HostError where it can't be saved; it holds all the same."""
        record.workload = workload
        self.save()

    def advance(self, record: Record, event: Event) -> None:
        self.put(record, record.workload.after(event))

    def save(self) -> None:
        self._file.save(record.workload for record in self._records.values())

    def save_if_possible(self) -> None:
        """Where something worse is being dealt with."""
        with contextlib.suppress(HostError):
            self.save()

    def reports(self) -> list[WorkloadReport]:
        return [report(record) for record in self]


def set_trouble(record: Record, error: JfeError) -> None:
    """Shown in the workload's report until it is proven again; not worth a write to disk."""
    record.workload = dataclasses.replace(record.workload, trouble=str(error))


def report(record: Record) -> WorkloadReport:
    workload = record.workload
    listeners, certificate, container = workload.listeners, workload.certificate, workload.container
    troubles = (workload.trouble, record.uncertified, lent_ports.trouble(record.yielded_ports))
    return WorkloadReport(
        id=workload.id,
        shape=workload.shape,
        mode=workload.mode,
        state=workload.state.value,
        identity=workload.identity,
        target_kind=workload.target.kind,
        target=workload.target.value,
        addresses=tuple(sorted(map(str, workload.addresses))),
        outbound_port=None if listeners is None else listeners.outbound,
        inbound_port=None if listeners is None else listeners.inbound,
        ipv6=listeners is not None and listeners.ipv6,
        certificate_expires=None if certificate is None else certificate.expires,
        rules_whole=workload.published and not record.missing,
        bare=tuple(Bare(str(b.local), b.local_port, str(b.remote), b.remote_port) for b in workload.bare),
        passed=record.passed,
        hazards=record.hazards,
        attachments=_attachments(workload),
        pod=_pod(workload),
        cgroup=_cgroup(workload),
        ran_bare=container is not None and container.ran_bare,
        trouble="; ".join(filter(None, troubles)) or None,
    )


def _attachments(workload: Workload) -> tuple[AttachmentReport, ...]:
    container = workload.container
    attachments = () if container is None else container.attachments
    return tuple(AttachmentReport(each.network, each.container, each.interface) for each in attachments)


def _pod(workload: Workload) -> PodReport | None:
    pod = None if workload.container is None else workload.container.pod
    return None if pod is None else PodReport(pod.namespace, pod.name, pod.uid)


def _cgroup(workload: Workload) -> str | None:
    if workload.container is not None:
        return workload.container.cgroup
    return None if workload.cgroup is None else workload.cgroup.path


def _thing(workload: Workload) -> str:
    return f"{workload.target.kind} {workload.target.value}"
