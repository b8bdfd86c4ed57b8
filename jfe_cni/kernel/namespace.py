"""Network namespaces: held open by a descriptor, known by (device, inode), entered on threads of their own."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from errno import EPERM
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from jfe_cni.errors import HostError, KernelError, NamespaceGone, RequestError

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""

NSFS_MAGIC = 0x6E736673
"""linux/magic.h"""


_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class NamespaceIdentity:
    """What tells one namespace from another while somebody holds it open: stat(2)'s st_dev and st_ino."""

    device: int
    inode: int


class Namespace:
    """A network namespace, alive at least as long as this object is open."""

    def __init__(self, descriptor: int, origin: str) -> None:
        """Take over `descriptor`; `origin` is what a person would call it. RequestError if it is something else."""
        self._descriptor = descriptor
        self.origin = origin
        try:
            check_is_network_namespace(descriptor, origin)
        except RequestError:
            os.close(descriptor)
            raise
        found = os.fstat(descriptor)
        self.identity = NamespaceIdentity(found.st_dev, found.st_ino)

    @classmethod
    def open_path(cls, path: str | Path) -> Self:
        """The namespace mounted at `path`. NamespaceGone where there is no file, RequestError where it is none."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
        except FileNotFoundError as error:
            raise NamespaceGone(f"there is no namespace at {path}", "see whether its workload still runs") from error
        except PermissionError as error:
            raise HostError(f"{path} may not be opened", "run as root") from error
        except OSError as error:
            raise RequestError(f"{path} cannot be opened ({error.strerror})", "name a network namespace") from error

    @classmethod
    def open_pid(cls, pid: int) -> Self:
        """The namespace of the process `pid`. NamespaceGone where there is no such process."""
        try:
            return cls.open_path(f"/proc/{pid}/ns/net")
        except NamespaceGone as error:
            raise NamespaceGone(f"there is no process {pid}", "see whether its workload still runs") from error

    @classmethod
    def own(cls) -> Self:
        """The namespace of this process."""
        return cls.open_path("/proc/self/ns/net")

    def fileno(self) -> int:
        """The descriptor, to be passed on and never closed by the receiver."""
        return self._descriptor

    @property
    def path(self) -> str:
        """A path to this namespace that works for this process and its children as long as this object is open."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Let go of the namespace; twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_is_network_namespace(descriptor: int, origin: str) -> None:
    """RequestError unless `descriptor` is a network namespace.

    A process in another mount namespace than dockerd sees an empty regular file where dockerd mounted a namespace, so
    that a file exists proves nothing."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs, 120 bytes on 64-bit; its first word is f_type
    if _LIBC.fstatfs(descriptor, buffer) != 0:
        raise RequestError(f"{origin} cannot be examined", "name a network namespace")
    if ctypes.c_long.from_buffer(buffer).value != NSFS_MAGIC:
        raise RequestError(
            f"{origin} is a file, not a namespace",
            "see from the mount namespace in which it was mounted, or name a process of the workload",
        )
    # ioctl_ns(2): NS_GET_NSTYPE is _IO(0xb7, 3)
    if _LIBC.ioctl(descriptor, 0xB703) != CLONE_NEWNET:
        raise RequestError(f"{origin} is a namespace of another kind", "name a network namespace: /proc/PID/ns/net")


async def run_inside(namespace: Namespace, work: Callable[[], T], interrupt: Callable[[], None] | None = None) -> T:
    """`work()` on a thread that has entered `namespace` and ends afterwards; what it raises is raised here.

    A thread of its own, never one of a pool: a pool's thread would take the next work along into the namespace.
    Cancelled, it calls `interrupt`, and waits for the end of `work` all the same: whoever undoes what was begun must
    not be overtaken by it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(result)

    def enter_and_work() -> None:
        try:
            enter(namespace)
            value = work()
        except BaseException as error:  # noqa: BLE001 - handed over whole to whoever awaits
            failure = error
            settle(lambda: done.set_exception(failure))
        else:
            settle(lambda: done.set_result(value))

    try:
        # Not `threading`: its `start` has this thread, the event loop's, wait until the new one runs. With fifty pods
        # at once that was a quarter of the agent's time.
        _thread.start_new_thread(enter_and_work, ())
    except RuntimeError as error:
        raise KernelError("no thread can be started", "see ulimit -u and the cgroup's pids.max") from error
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if interrupt is not None:
            interrupt()
        while not done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([done])
        # Asked for, so that it counts as seen.
        done.exception()
        raise


def enter(namespace: Namespace) -> None:
    """setns(2) for the calling thread alone: it never comes back."""
    if _LIBC.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        if error == EPERM:
            raise HostError(f"{namespace.origin} may not be entered", "run as root")
        raise KernelError(f"{namespace.origin} cannot be entered ({os.strerror(error)})", "try again")


def in_fresh_namespace(work: Callable[[], T]) -> T:
    """`work()` on a thread of its own in a new, empty namespace that is gone with it, while the caller waits."""

    def leave_and_work() -> T:
        _leave()
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(leave_and_work).result()


async def fresh_namespace() -> Namespace:
    """A new, empty namespace that lives as long as somebody holds it open: no name, no file."""
    with Namespace.own() as own:
        return await run_inside(own, _unshare)


def _unshare() -> Namespace:
    _leave()
    return Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), "a throw-away namespace")


def _leave() -> None:
    """unshare(2) for the calling thread alone."""
    if _LIBC.unshare(CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        if error == EPERM:
            raise HostError("a namespace may not be made", "run as root")
        raise KernelError(f"a namespace cannot be made ({os.strerror(error)})", "see user.max_net_namespaces")
