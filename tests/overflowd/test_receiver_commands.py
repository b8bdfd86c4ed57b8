"""`overflowd receive` and `overflowd tail`, as a person starts them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH
from jfe_cni.overflowd.notices.messages import Taken, digest
from jfe_cni.overflowd.receiver.settings import SETTINGS
from tests.overflowd.receiving import (
    DEADLINE,
    DOMAIN,
    Authority,
    Publisher,
    Sender,
    laboratory,
    started,
)

OVERFLOWD = [sys.executable, "-m", "jfe_cni.overflowd.cli.main"]


@pytest.fixture
def environment(tmp_path: Path, trusted: Authority, publisher: Publisher) -> Mapping[str, str]:
    settings = {
        "STORE": f"sqlite:///{tmp_path}/received.db",
        "KEYS": str(tmp_path / "keys.json"),
        "UDP": "127.0.0.1:0",
        "HTTP": "127.0.0.1:0",
        "PAGE": "127.0.0.1:0",
        "KEY_NETWORKS": "127.0.0.0/8",
        "KEY_PORTS": str(publisher.port),
        "KEY_ROOTS": str(trusted.roots),
    }
    return {**os.environ, **{f"OVERFLOWD_RECEIVE_{name}": value for name, value in settings.items()}}


class Started:
    """`where`: by what it prints."""

    def __init__(self, process: asyncio.subprocess.Process, where: Mapping[str, str]) -> None:
        self.process = process
        self.where = where

    @property
    def udp(self) -> int:
        return int(self.where["udp"].removeprefix("port "))

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def process(*words: str, environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    begun = await asyncio.create_subprocess_exec(
        *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield begun
    finally:
        with contextlib.suppress(ProcessLookupError):
            begun.kill()
        await begun.communicate()


@contextlib.asynccontextmanager
async def receive(folder: Path, environment: Mapping[str, str], *flags: str) -> AsyncIterator[Started]:
    """The publisher's name is this host's by a file of names that only this process has: its own resolver is asked."""
    names = folder / "hosts"
    names.write_text(f"127.0.0.1 localhost {DOMAIN}.\n")
    shell = 'mount --bind "$0" /etc/hosts && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", shell, str(names), *OVERFLOWD, "receive", *flags]
    async with process(*words, environment=environment) as begun:
        assert begun.stdout is not None
        assert begun.stderr is not None
        where = {}
        async with asyncio.timeout(DEADLINE):
            while "page" not in where:
                line = (await begun.stdout.readline()).decode()
                assert line, (await begun.stderr.read()).decode()
                where[line.split()[0]] = line.partition(" ")[2].strip()
        yield Started(begun, where)


async def test_a_receiver_takes_in_ends_in_order_and_knows_after_a_kill_what_it_took(
    tmp_path: Path, environment: Mapping[str, str], publisher: Publisher
) -> None:
    first, second = publisher.signed(), publisher.signed()
    async with receive(tmp_path, environment) as started:
        with Sender(started.udp) as sender:
            assert await sender.introduce(first) == Taken(digest(first))
            assert await started.end(signal.SIGKILL) == -signal.SIGKILL
    async with receive(tmp_path, environment) as started:
        with Sender(started.udp) as sender:
            assert await sender.ask(first) == Taken(digest(first))
            assert await sender.ask(second) == Taken(digest(second))
        async with httpx.AsyncClient(base_url=started.where["page"], trust_env=False) as http:
            assert len((await http.get("/api/notices")).json()["notices"]) == 2
        assert await started.end(signal.SIGTERM) == 0
    assert publisher.asked == 1


async def test_what_was_taken_and_what_comes_is_tailed_from_the_page_and_from_the_store(
    tmp_path: Path, trusted: Authority, environment: Mapping[str, str], publisher: Publisher
) -> None:
    settings = laboratory(tmp_path, trusted, publisher)
    async with started(settings) as receiver, httpx.AsyncClient(base_url=receiver.http, trust_env=False) as http:

        async def tell() -> None:
            answer = await http.post(PATH, content=publisher.signed(), headers={"content-type": CONTENT_TYPE})
            answer.raise_for_status()

        for _ in range(3):
            await tell()
        for where in (("--url", receiver.page), ("--store", settings.store)):
            async with process(*OVERFLOWD, "tail", "--lines", "2", *where, environment=environment) as tail:
                assert tail.stdout is not None
                async with asyncio.timeout(DEADLINE):
                    told = [json.loads(await tail.stdout.readline()) for _ in range(2)]
                    await tell()
                    told.append(json.loads(await tail.stdout.readline()))
                    numbers = [each["number"] for each in told]
                    assert numbers == [numbers[2] - 2, numbers[2] - 1, numbers[2]]
                    assert told[2]["domain"] == DOMAIN
                    assert told[2]["notice"]["flow"]["destination"] == "203.0.113.9"
                    tail.send_signal(signal.SIGTERM)
                    assert await tail.wait() == 0
        async with process(
            *OVERFLOWD, "tail", "--no-follow", "--lines", "1000", "--url", receiver.page, environment=environment
        ) as whole:
            lines, complaints = await whole.communicate()
            assert (len(lines.splitlines()), complaints, whole.returncode) == (5, b"", 0)
        # As the receiver itself has it, whose page may be asked for all the same.
        ways: list[tuple[str, list[str]]] = [(settings.store, []), ("sqlite:////none.db", ["--url", receiver.page])]
        for store, url in ways:
            given = {**environment, "OVERFLOWD_RECEIVE_STORE": store}
            async with process(*OVERFLOWD, "tail", "--no-follow", *url, environment=given) as whole:
                lines, complaints = await whole.communicate()
                assert (len(lines.splitlines()), complaints, whole.returncode) == (5, b"", 0)


async def test_what_can_not_be_is_said_in_one_line(tmp_path: Path, environment: Mapping[str, str]) -> None:
    async def complains(flags: Sequence[str], said: str, status: int = 64) -> None:
        async with process(*OVERFLOWD, "receive", *flags, environment=environment) as begun:
            async with asyncio.timeout(DEADLINE):
                printed, complaint = await begun.communicate()
        assert (begun.returncode, len(complaint.splitlines())) == (status, 1), complaint.decode()
        assert said in complaint.decode()
        assert b"secret@" not in printed + complaint

    await asyncio.gather(
        complains(["--store", "mysql://a:secret@b/c"], "of no kind that is known"),
        complains(["--own", "203.0.113.9/8"], "--own"),
        complains(["--http", "nowhere"], "no address to listen on"),
        complains(["--https", "127.0.0.1:0"], "go together"),
        complains(["--webhooks", "http://127.0.0.1:1/"], "--webhook-secret"),
        complains(["--key-roots", str(tmp_path / "none.pem")], "can't be read", 1),
    )
    async with process(*OVERFLOWD, "tail", "--url", "http://127.0.0.1:1", environment=environment) as begun:
        _, complaint = await begun.communicate()
        assert (begun.returncode, complaint.startswith(b"overflowd: no receiver answers at")) == (1, True)


async def test_tail_makes_no_store_and_changes_none(tmp_path: Path, environment: Mapping[str, str]) -> None:
    async def complaint(path: Path) -> str:
        words = (*OVERFLOWD, "tail", "--no-follow", "--store", f"sqlite:///{path}")
        async with process(*words, environment=environment) as begun:
            async with asyncio.timeout(DEADLINE):
                _, said = await begun.communicate()
            assert (begun.returncode, len(said.splitlines())) == (1, 1), said.decode()
            return said.decode()

    assert "is no store" in await complaint(tmp_path / "mistyped.db")
    assert not (tmp_path / "mistyped.db").exists()

    former = tmp_path / "former.db"
    with contextlib.closing(sqlite3.connect(former)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('receiver_0001')")
    before = former.read_bytes()
    assert "of another release" in await complaint(former)
    assert former.read_bytes() == before


async def test_tail_says_what_is_refused_for_good_and_asks_again_for_the_rest(environment: Mapping[str, str]) -> None:
    statuses = [200, 503, 503, 421]

    async def page(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/api/notices":
            return web.json_response({"notices": []})
        return web.Response(status=statuses.pop(0), content_type="text/event-stream")

    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, bound).start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        async with process(*OVERFLOWD, "tail", "--url", url, environment=environment) as begun:
            async with asyncio.timeout(DEADLINE):
                printed, said = await begun.communicate()
            assert (printed, begun.returncode) == (b"", 1)
    finally:
        await runner.cleanup()
    lines = said.decode().splitlines()
    assert [line.partition(url)[2].split(";")[0].split(":")[0].strip() for line in lines[:2]] == [
        "has ended its events",
        "answers 503",
    ]
    assert "answers 421" in lines[2]
    assert "--page-names" in lines[2]
    assert len(lines) == 3, "not a line for each time"


def test_settings_are_of_flags_environment_and_file_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "receive.toml"
    file.write_text('most = 7\nage = 2.5\nown = ["192.0.2.0/24", "2001:db8::/32"]\n')
    found = SETTINGS.read({"most": "5"}, {"OVERFLOWD_RECEIVE_MOST": "6", "OVERFLOWD_RECEIVE_AGE": "3"}, file)
    assert (found.most, found.age, len(found.own_networks)) == (5, 3.0, 2)
    with pytest.raises(RequestError, match="above 0"):
        SETTINGS.read({"most": "0"}, {})
    with pytest.raises(RequestError, match="1 to 65535"):
        assert SETTINGS.read({"key_ports": ("70000",)}, {}).ports_of_keys
