"""Cgroups of the v2 hierarchy: where it is, how a rule names them, processes placed in them and taken out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jfe_cni.errors import CgroupGone, HostError, KernelError, RequestError, RuleMatchError
from jfe_cni.rules.model import Cgroup, Exemption

NFT_ROOT = Path("/sys/fs/cgroup")
"""Where `nft` looks a cgroup's path up (nftables, src/datatype.c)."""

INITIAL_CGROUP_NAMESPACE = 0xEFFFFFFB
"""PROC_CGROUP_INIT_INO, linux/proc_ns.h: the inode of the first cgroup namespace, the same on every boot."""

GRACE = 5.0
"""Seconds that what has been killed may take to be gone."""

MOUNT_V2 = "boot with systemd.unified_cgroup_hierarchy=1, or `mount -t cgroup2 none /sys/fs/cgroup/unified`"


@dataclass(frozen=True)
class MadeCgroup:
    """A cgroup of ours. `kill` and `remove` wait: from an event loop, call them on a thread (`asyncio.to_thread`)."""

    root: Path
    path: Path

    @property
    def procs(self) -> Path:
        """The file into which a process writes its number, or 0, to come in."""
        return self.path / "cgroup.procs"

    def processes(self) -> tuple[int, ...]:
        """The processes in this cgroup and below it; none where it is gone."""
        found = []
        for folder, _, _ in os.walk(self.path):
            try:
                found += [int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()]
            except OSError:
                continue  # this one has gone meanwhile
        return tuple(sorted(found))

    def place(self, pid: int) -> None:
        """Move a process in: sockets that it makes from now on carry this cgroup. Those it has keep their old one."""
        try:
            self.procs.write_text(str(pid))
        except FileNotFoundError as error:
            raise CgroupGone(f"there is no cgroup {self.path}", "create it first") from error
        except ProcessLookupError as error:
            raise CgroupGone(f"there is no process {pid}", "see whether it still runs") from error
        except OSError as error:
            raise KernelError(f"process {pid} cannot enter {self.path} ({error.strerror})", "run as root") from error

    def kill(self) -> None:
        """SIGKILL for all in it and below it (cgroup.kill, Linux 5.14), and wait until they are gone.

        HostError on a kernel that is older; a cgroup that is gone has nobody to kill."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            return
        except PermissionError as error:
            # The folder is there and the file is not: kernfs lets nobody create one (fs/namei.c, lookup_open).
            raise HostError(f"there is no {self.path}/cgroup.kill", "boot Linux 5.16 or later") from error
        self._wait(lambda: not self.processes(), f"processes of {self.path} do not end", "see what they wait for")

    def remove(self) -> None:
        """Take it away with those below it, and those above it that are left empty, but for the root.

        Gone already is gone. KernelError while a process is in it: `kill` first."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            # A process that has ended is still counted until its parent has waited for it.
            remove = partial(_removed, Path(folder))
            self._wait(remove, f"{folder} cannot be removed", "end the processes in it")
        for parent in self.path.parents:
            if parent == self.root or not _removed(parent):
                return

    def _wait(self, done: Callable[[], bool], failure: str, remedy: str) -> None:
        deadline = time.monotonic() + GRACE
        while not done():
            if time.monotonic() > deadline:
                raise KernelError(failure, remedy)
            time.sleep(0.01)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class CgroupTree:
    """The v2 hierarchy at `root`: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` where v1 is mounted beside it."""

    root: Path

    @classmethod
    def found(cls, mounts: str | None = None) -> CgroupTree:
        """The hierarchy of this host. `mounts`: the text of `/proc/self/mounts`, to be read if absent.

        HostError on a host with version 1 alone, or with none."""
        text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
        mounted = [(f[1], f[2]) for f in (line.split() for line in text.splitlines()) if len(f) > 2]
        roots = [Path(where) for where, kind in mounted if kind == "cgroup2" and Path(where).is_relative_to(NFT_ROOT)]
        if roots:
            return cls(min(roots, key=lambda root: len(root.parts)))
        if any(kind == "cgroup" for _, kind in mounted):
            raise HostError("this host has cgroup version 1 alone", MOUNT_V2)
        raise HostError(f"no cgroup hierarchy is mounted below {NFT_ROOT}", MOUNT_V2)

    def path(self, cgroup: str) -> Path:
        """The folder of a cgroup, given below the root (`jfe/n1/upgrader`) or as an absolute path below it."""
        given = Path(cgroup)
        relative = given.relative_to(self.root) if given.is_relative_to(self.root) else Path(cgroup.lstrip("/"))
        if not relative.parts or ".." in relative.parts:
            raise RequestError(f"{cgroup!r} is no cgroup below {self.root}", "name one such as jfe/run/web")
        return self.root / relative

    def cgroup(self, cgroup: str) -> Cgroup:
        """How a rule names it: path below `/sys/fs/cgroup`, level below the v2 root. It need not exist."""
        folder = self.path(cgroup)
        return Cgroup(str(folder.relative_to(NFT_ROOT)), len(folder.relative_to(self.root).parts))

    def exemption(self, cgroup: str) -> Exemption:
        """The same for the upgrader's cgroup."""
        named = self.cgroup(cgroup)
        return Exemption(named.path, named.level)

    def folder_of(self, cgroup: Cgroup) -> Path:
        """Back from a rule's name."""
        return NFT_ROOT / cgroup.path

    def number(self, cgroup: str) -> int:
        """Its folder's inode, by which sock_diag names the cgroup of a socket (kernfs). CgroupGone if it is away."""
        try:
            return self.path(cgroup).stat().st_ino
        except FileNotFoundError as error:
            raise CgroupGone(f"there is no cgroup {cgroup}", "see whether its workload still runs") from error

    def numbers_below(self, number: int) -> frozenset[int]:
        """The numbers of the cgroup with `number` and of all below it; `number` alone where it is away."""
        for folder, _, _ in os.walk(self.root):
            try:
                found = Path(folder).stat().st_ino
            except FileNotFoundError:
                continue  # this one has gone meanwhile
            if found == number:
                return frozenset(_numbers(Path(folder))) | {number}
        return frozenset({number})

    def create(self, cgroup: str) -> MadeCgroup:
        """Make the cgroup and those above it; one that exists is kept."""
        folder = self.path(cgroup)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise HostError(f"cgroup {cgroup} cannot be made", "run as root, where /sys is writable") from error
        except OSError as error:
            raise KernelError(f"cgroup {cgroup} cannot be made ({error.strerror})", "see `jfe doctor`") from error
        return MadeCgroup(self.root, folder)

    def of_process(self, pid: int) -> str:
        """The cgroup of a process, below the root and without leading slash. CgroupGone: there is no such process."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise CgroupGone(f"there is no process {pid}", "see whether it still runs") from error
        for line in lines:
            if line.startswith("0::"):
                return line.removeprefix("0::").lstrip("/")
        raise HostError(f"process {pid} is in no cgroup of version 2", MOUNT_V2)


def _numbers(top: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(top):
        try:
            yield Path(folder).stat().st_ino
        except FileNotFoundError:
            continue


def check_cgroup_namespace() -> None:
    """RuleMatchError where this process is known to live in another cgroup namespace than the host's first process.

    Rules count levels from the root of the loader's cgroup namespace, and in another one they would load and never
    match. Where neither can be seen nothing is said here: `prove` tries the match itself."""
    own = Path("/proc/self/ns/cgroup").stat().st_ino
    if own == INITIAL_CGROUP_NAMESPACE:
        return
    try:
        first = Path("/proc/1/ns/cgroup").stat().st_ino
    except OSError:
        return
    if own != first:
        raise RuleMatchError(
            "this process has a cgroup namespace of its own, in which rules load and never match",
            "start it in the host's: `nsenter --cgroup=/proc/1/ns/cgroup`, or `cgroupns: host` of a container",
        )
