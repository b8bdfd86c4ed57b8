"""What a restarted agent must know: every workload, and what was said of others. No key is in it.

A database of SQLite (0600), of which each change writes what has changed and no more. A change outlives the agent from
the moment it is made, however that ends. What outlives the host itself, units and what was said of others, is on the
disk when it is saved; a namespace goes with the host, and nobody waits for the disk for its sake.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jfe_cni.agent.attachment import Container
from jfe_cni.agent.directory import API, FILE, Address
from jfe_cni.agent.fields import Fields
from jfe_cni.agent.log import fields
from jfe_cni.agent.messages import Listeners
from jfe_cni.agent.objects import DirectoryEntry, Target, WorkloadSettings, mode_of
from jfe_cni.agent.workload import Certificate, State, Workload
from jfe_cni.errors import HostError, RequestError
from jfe_cni.rules.model import Cgroup, ConnectionTuple, Proof

# Raised when the form changes in a way that an older agent would misread. 1 was a file of JSON, written whole.
_VERSION = 2

# One agent has the file: locked for good, SQLite needs no memory that others could share. In the write-ahead log a
# commit is one write, and waits for the disk where it is told to (synchronous = FULL).
_BEGIN = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
)
_TABLES = (
    "CREATE TABLE workload (id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE directory (source TEXT PRIMARY KEY, entries TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA user_version = {_VERSION}",
)


@dataclass(frozen=True)
class SavedDirectory:
    """What this node's own workloads do not tell. `pushed` came by the API; `file` is what the directory file said when
    it could last be read, None where it never could."""

    pushed: tuple[DirectoryEntry, ...] = ()
    file: tuple[DirectoryEntry, ...] | None = None


class StateFile:
    """Whatever can't be read or written is a HostError; then the former state is as it was.

    `former`: where an older agent saved its own; taken over once, and removed."""

    def __init__(self, path: Path, log: logging.Logger, former: Path | None = None) -> None:
        self._path = path
        self._former = former
        self._workloads: dict[str, Workload] = {}
        self._directory: SavedDirectory | None = None
        try:
            self._database = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise HostError(f"{path} can't be opened: {error}", remedy="make room, or mend its folder") from error
            # The agent must be there for what is enrolled from now on, all the more after a loss of power.
            aside = path.with_name(f"{path.name}.unreadable")
            log.error("saved state unreadable", extra=fields(file=str(path), kept=str(aside), error=str(error)))
            path.replace(aside)
            for left in _beside(path):
                left.unlink(missing_ok=True)
            self._database = self._opened()

    def load(self) -> tuple[list[Workload], SavedDirectory]:
        """What was saved last; nothing where nothing was."""
        with self._reading(self._path):
            rows = self._database.execute("SELECT state FROM workload").fetchall()
            workloads = [_workload(Fields.of_bytes(row.encode(), f"a workload in {self._path}")) for (row,) in rows]
            listed = dict(self._database.execute("SELECT source, entries FROM directory").fetchall())
            found = {source: _entries(json.loads(text), source, self._path) for source, text in listed.items()}
        directory = SavedDirectory(found.get(API, ()), found.get(FILE))
        if not rows and not listed and self._former is not None:
            with self._reading(self._former):
                workloads, directory = _version_1(self._former)
            self.save(workloads)
            self.save_directory(directory)
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._former.unlink(missing_ok=True)
        self._workloads = {workload.id: workload for workload in workloads}
        self._directory = directory
        return workloads, directory

    def save(self, workloads: Iterable[Workload]) -> None:
        """These are all that there are."""
        now = {workload.id: workload for workload in workloads}
        changed = [each for each in now.values() if self._workloads.get(each.id) is not each]
        gone = [each for name, each in self._workloads.items() if name not in now]
        if not changed and not gone:
            return
        with self._writing(lasting=any(each.shape == "host" for each in (*changed, *gone))):
            self._database.executemany("DELETE FROM workload WHERE id = ?", [(each.id,) for each in gone])
            self._database.executemany(
                "INSERT OR REPLACE INTO workload VALUES (?, ?)",
                [(workload.id, json.dumps(_as_json(workload))) for workload in changed],
            )
        self._workloads = now

    def save_directory(self, directory: SavedDirectory) -> None:
        if directory == self._directory:
            return
        listed = {API: directory.pushed} | ({} if directory.file is None else {FILE: directory.file})
        with self._writing(lasting=True):
            self._database.execute("DELETE FROM directory")
            self._database.executemany(
                "INSERT INTO directory VALUES (?, ?)",
                [(source, json.dumps([each.as_json() for each in entries])) for source, entries in listed.items()],
            )
        self._directory = directory

    def close(self) -> None:
        self._database.close()

    def remove(self) -> None:
        """Closes it, and leaves no file."""
        self.close()
        for path in (self._path, *_beside(self._path)):
            path.unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        # Made here, for SQLite would make it for everybody to read.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, isolation_level=None)
        try:
            for statement in _BEGIN:
                database.execute(statement).fetchall()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.execute("BEGIN")
                for statement in _TABLES:
                    database.execute(statement)
                database.execute("COMMIT")
            elif version != _VERSION:
                raise HostError(
                    f"{self._path} was saved by another version", remedy="unenrol with that version, then upgrade"
                )
            if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("it is damaged")
        except (sqlite3.Error, HostError):
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _writing(self, *, lasting: bool) -> Iterator[None]:
        """One transaction; `lasting`: it is on the disk afterwards."""
        try:
            self._database.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            self._database.execute("BEGIN")
            try:
                yield
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise HostError(
                f"{self._path} can't be written: {error}", remedy="make room, or mend its folder"
            ) from error

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise HostError(f"{path} can't be read: {error}", remedy="mend it, or remove it and enrol anew") from error
        except (RequestError, ValueError) as error:
            raise HostError(
                f"{path} is unreadable: {error}", remedy="remove it and enrol the workloads anew"
            ) from error


def _beside(path: Path) -> list[Path]:
    """What SQLite keeps beside a database; all of it is gone where that was closed in order."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def _version_1(path: Path) -> tuple[list[Workload], SavedDirectory]:
    """What an older agent saved. Nothing where there is no file."""
    try:
        saved = Fields.of_bytes(path.read_bytes(), f"the saved state {path}")
    except FileNotFoundError:
        return [], SavedDirectory()
    if saved.integer("version") != 1:
        raise HostError(f"{path} was saved by another version", remedy="unenrol with that version, then upgrade")
    workloads = [_workload(Fields(each, f"a workload in {path}")) for each in saved.elements("workloads")]
    pushed = _entries(saved.elements("directory"), API, path)
    file = saved.nested("directory_file")
    read = None if file is None else _entries(file.elements("entries"), FILE, path)
    saved.done()
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
        "proof": None if workload.proof is None else {"wanted": workload.proof.wanted, "found": workload.proof.found},
    }


def _workload(fields: Fields) -> Workload:
    target = fields.nested("target")
    if target is None:
        raise RequestError(f"{fields.what} lacks target")
    listeners, certificate, cgroup = (fields.nested(name) for name in ("listeners", "certificate", "cgroup"))
    container = fields.nested("container")
    # Absent where an older agent saved it: then the rules are loaded anew.
    proof = fields.nested("proof")
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
        proof=None if proof is None else Proof(proof.text("wanted"), proof.text("found")),
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
