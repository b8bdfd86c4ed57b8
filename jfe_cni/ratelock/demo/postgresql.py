"""A PostgreSQL server for a while: a folder of its own, a Unix socket, nothing of it left afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from jfe_cni.errors import HostError

# Where Debian has the server's programs, which it does not put on PATH.
_FOLDERS = "usr/lib/postgresql/*/bin"
USER = "postgres"
"""Of the database; and of the host where root starts it, for the server declines to run as root."""
_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Server:
    """Made by `server`."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def make(self) -> None:
        if os.geteuid() == 0:
            os.chown(self._folder, _uid(), -1)
        words = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={USER}", str(self._data)]
        done = subprocess.run(
            [*_as_user(), program("initdb"), *words], cwd="/", capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise HostError(f"PostgreSQL can't be made: {done.stderr.strip()}", remedy=f"see {self._folder}")

    def start(self) -> None:
        """Answers when this returns. Raises HostError."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._durable else "off",
        }
        words = [program("postgres"), "-D", str(self._data), *(f"--{name}={value}" for name, value in options.items())]
        log = self._folder / "server.log"
        with log.open("ab") as said:
            # A group of its own: an interrupt at the terminal is for whoever stops it in order.
            self._process = subprocess.Popen([*_as_user(), *words], cwd="/", stdout=said, stderr=said, process_group=0)
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise HostError(
                    f"PostgreSQL does not start: {log.read_text().strip()}", remedy="see what it says, and try again"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """By SIGINT it ends every session first (postgres(1))."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def database(self) -> str:
        """A new, empty one; its URL."""
        name = f"ratelock{next(self._names)}"
        with psycopg.connect(self._connection("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def _connection(self, database: str) -> str:
        return f"host={self._folder} user={USER} dbname={database}"

    def _answers(self) -> bool:
        asked = [program("pg_isready"), f"--host={self._folder}", "--quiet", f"--username={USER}"]
        return subprocess.run(asked, check=False).returncode == 0


@contextmanager
def server(*, durable: bool = False, parent: Path | None = None) -> Iterator[Server]:
    """`durable`: a power cut of the whole machine loses nothing, either. Raises HostError where it can't be started."""
    folder = Path(tempfile.mkdtemp(prefix="jfe-postgresql-", dir=parent))
    started = Server(folder, durable=durable)
    try:
        started.make()
        try:
            started.start()
            yield started
        finally:
            started.stop()
    finally:
        shutil.rmtree(folder)


def program(name: str) -> str:
    """Of the newest version that is installed. Raises HostError: none is."""
    found = sorted(Path("/").glob(f"{_FOLDERS}/{name}"), key=lambda path: [int(p) for p in path.parts if p.isdigit()])
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise HostError(f"{name} is not found: PostgreSQL is not installed", remedy="apt-get install postgresql")
    return path


def _as_user() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"] if os.geteuid() == 0 else []


def _uid() -> int:
    try:
        return pwd.getpwnam(USER).pw_uid
    except KeyError as error:
        raise HostError(f"there is no user {USER}", remedy="apt-get install postgresql") from error
