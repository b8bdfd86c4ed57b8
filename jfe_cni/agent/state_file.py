"""What a restarted agent must know: every workload, saved whole at each change (0600, by rename). No key is in it."""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jfe_cni.agent.attachment import Container
from jfe_cni.agent.directory import API, FILE, Address
from jfe_cni.agent.fields import Fields
from jfe_cni.agent.messages import Listeners
from jfe_cni.agent.objects import DirectoryEntry, Target, WorkloadSettings, mode_of
from jfe_cni.agent.workload import Certificate, State, Workload
from jfe_cni.errors import HostError, RequestError
from jfe_cni.rules.model import Cgroup, ConnectionTuple

# Raised when the form changes in a way that an older agent would misread.
_VERSION = 1


@dataclass(frozen=True)
class SavedDirectory:
    """What this node's own workloads do not tell. `pushed` came by the API; `file` is what the directory file said when
    it could last be read, None where it never could."""

    pushed: tuple[DirectoryEntry, ...] = ()
    file: tuple[DirectoryEntry, ...] | None = None


def save(path: Path, workloads: Iterable[Workload], directory: SavedDirectory) -> None:
    """Whole or not at all: a crash leaves the former state. Raises HostError where it can't be written."""
    state = {
        "version": _VERSION,
        "workloads": [_as_json(workload) for workload in workloads],
        "directory": [entry.as_json() for entry in directory.pushed],
        "directory_file": None
        if directory.file is None
        else {"entries": [entry.as_json() for entry in directory.file]},
    }
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}", remedy="make room, or mend its folder") from error


def load(path: Path) -> tuple[list[Workload], SavedDirectory]:
    """Nothing where there is no file. Raises HostError where it is unreadable or of another version."""
    try:
        fields = Fields.of_bytes(path.read_bytes(), f"the saved state {path}")
        if fields.integer("version") != _VERSION:
            raise HostError(f"{path} was saved by another version", remedy="unenrol with that version, then upgrade")
        workloads = [_workload(Fields(each, f"a workload in {path}")) for each in fields.elements("workloads")]
        pushed = _entries(fields.elements("directory"), API, path)
        file = fields.nested("directory_file")
        read = None if file is None else _entries(file.elements("entries"), FILE, path)
        fields.done()
    except FileNotFoundError:
        return [], SavedDirectory()
    except OSError as error:
        raise HostError(
            f"{path} can't be read: {error.strerror}", remedy="mend it, or remove it and enrol anew"
        ) from error
    except (RequestError, ValueError) as error:
        raise HostError(f"{path} is unreadable: {error}", remedy="remove it and enrol the workloads anew") from error
    return workloads, SavedDirectory(pushed, read)


def _entries(listed: Iterable[object], source: str, path: Path) -> tuple[DirectoryEntry, ...]:
    return tuple(DirectoryEntry.of(Fields(each, f"an entry in {path}"), source) for each in listed)


def _as_json(workload: Workload) -> dict[str, Any]:
    listeners, certificate, cgroup = workload.listeners, workload.certificate, workload.cgroup
    return {
        "id": workload.id,
        "target": workload.target.as_json(),
        "mode": workload.mode,
        "identity": workload.identity,
        "settings": workload.settings.as_json(),
        "state": workload.state.value,
        "addresses": _as_texts(workload.addresses),
        "listeners": None
        if listeners is None
        else {"outbound": listeners.outbound, "inbound": listeners.inbound, "ipv6": listeners.ipv6},
        "certificate": None
        if certificate is None
        else {
            "renew_at": certificate.renew_at,
            "expires": certificate.expires,
            "roots": list(certificate.roots),
            "addresses": _as_texts(certificate.addresses),
        },
        "cgroup": None if cgroup is None else {"path": cgroup.path, "level": cgroup.level},
        "cgroup_number": workload.cgroup_number,
        "namespace": None if workload.namespace is None else list(workload.namespace),
        "listener_ports": list(workload.listener_ports),
        "lent_ports": list(workload.lent_ports),
        "bare": [[str(b.local), b.local_port, str(b.remote), b.remote_port] for b in workload.bare],
        "container": None if workload.container is None else workload.container.as_json(),
    }


def _workload(fields: Fields) -> Workload:
    target = fields.nested("target")
    if target is None:
        raise RequestError(f"{fields.what} lacks target")
    listeners, certificate, cgroup = (fields.nested(name) for name in ("listeners", "certificate", "cgroup"))
    container = fields.nested("container")
    namespace = fields.elements("namespace")
    workload = Workload(
        id=fields.text("id"),
        target=Target.of(target),
        mode=mode_of(fields.text("mode")),
        identity=fields.text("identity"),
        settings=WorkloadSettings.of(fields.nested("settings")),
        state=State(fields.text("state")),
        addresses=_addresses(fields),
        listeners=None
        if listeners is None
        else Listeners(listeners.integer("outbound"), listeners.integer("inbound"), listeners.flag("ipv6")),
        certificate=None
        if certificate is None
        else Certificate(
            certificate.optional_number("renew_at") or 0.0,
            certificate.optional_number("expires") or 0.0,
            certificate.texts("roots"),
            # Absent where an older agent saved it: then it is due, and issued anew.
            _addresses(certificate),
        ),
        cgroup=None if cgroup is None else Cgroup(cgroup.text("path"), cgroup.integer("level")),
        cgroup_number=fields.optional_integer("cgroup_number"),
        namespace=(int(namespace[0]), int(namespace[1])) if len(namespace) == 2 else None,
        listener_ports=fields.ports("listener_ports"),
        lent_ports=fields.ports("lent_ports"),
        bare=tuple(_bare(each) for each in fields.elements("bare")),
        container=None if container is None else Container.of(container),
    )
    fields.done()
    return workload


def _as_texts(addresses: Iterable[Address]) -> list[str]:
    return [str(address) for address in addresses]


def _addresses(fields: Fields) -> frozenset[Address]:
    return frozenset(ipaddress.ip_address(address) for address in fields.texts("addresses"))


def _bare(value: object) -> ConnectionTuple:
    match value:
        case [str(local), int(local_port), str(remote), int(remote_port)]:
            return ConnectionTuple(ipaddress.ip_address(local), local_port, ipaddress.ip_address(remote), remote_port)
        case _:
            raise RequestError("a bare connection is not [address, port, address, port]")
