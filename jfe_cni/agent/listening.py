"""The agent's own sockets: the API's, for its owner alone, and where it is wanted one for Prometheus."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from jfe_cni.errors import ConflictError, HostError

# Requests that are under way when the agent ends get this long.
SHUTDOWN_SECONDS = 5.0
_BACKLOG = 128


@contextmanager
def sole_agent(state_dir: Path) -> Iterator[None]:
    """Two agents with one state would undo each other's work. The lock goes with the process, however it ends."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"{state_dir} can't be used: {error.strerror}", remedy="run as root, or name another"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConflictError(
            f"another agent runs with the state in {state_dir}", remedy="stop it first, or name another --state-dir"
        ) from error
    finally:
        os.close(descriptor)


def unix_listener(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600 from the first moment; one that nobody answers on is replaced.

    Raises ConflictError where somebody answers, HostError where it can't be made."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(f"{path} can't be listened on: {error.strerror}", remedy="name another --socket") from error
    except ConflictError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _clear(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConflictError(f"somebody answers on {path} already", remedy="stop that agent first, or name another --socket")


async def serve(application: web.Application, listener: socket.socket) -> web.AppRunner:
    """Serving when this returns; `await runner.cleanup()` ends it."""
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


async def serve_tcp(application: web.Application, address: tuple[str, int]) -> web.AppRunner:
    """Raises HostError where the address can't be listened on."""
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    host, port = address
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise HostError(f"metrics can't be served on {host}:{port}: {error.strerror}", remedy="name another") from error
    return runner
