"""A PostgreSQL of the tests' own, on a Unix socket."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.stage.deadline import eventually
from tests.stage.programs import program

BINARIES = "/usr/lib/postgresql/*/bin/"
# The server declines to run as root.
USER = "postgres"


class Server:
    def __init__(self, folder: Path, *, durable: bool) -> None:
        """`durable`: a power cut of the whole machine loses nothing, either."""
        self._folder = folder
        self._data = folder / "data"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def make(self) -> None:
        os.chown(self._folder, pwd.getpwnam(USER).pw_uid, -1)
        initdb = [program(f"{BINARIES}initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*_as_user(), *initdb, str(self._data)], cwd="/", check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._durable else "off",
        }
        words = [program(f"{BINARIES}postgres"), "-D", str(self._data), *(f"--{k}={v}" for k, v in options.items())]
        with (self._folder / "server.log").open("ab") as said:
            self._process = subprocess.Popen([*_as_user(), *words], cwd="/", stdout=said, stderr=said)
        eventually(self._answers, "PostgreSQL answers")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        assert self._process is not None
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
        asked = [program(f"{BINARIES}pg_isready"), f"--host={self._folder}", "--quiet", f"--username={USER}"]
        return subprocess.run(asked, check=False).returncode == 0


def _as_user() -> list[str]:
    return [program("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"]


@contextmanager
def server(*, durable: bool = False, parent: Path = Path("/tmp")) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="jfe-postgresql-", dir=parent))
    started = Server(folder, durable=durable)
    try:
        started.make()
        started.start()
        try:
            yield started
        finally:
            started.stop()
    finally:
        shutil.rmtree(folder)
