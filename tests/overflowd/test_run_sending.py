"""`overflowd run --send`: a process with its state on disk, exporters and receivers on real sockets, and `kill -9`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from joserfc.jwk import OKPKey

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery.sizes import UDP_TRIES
from jfe_cni.overflowd.notices import messages
from jfe_cni.overflowd.notices.notice import End, Notice
from jfe_cni.overflowd.notices.signing import key_named, verified
from jfe_cni.overflowd.settings import SETTINGS
from jfe_cni.ratelock.demo import postgresql
from tests.overflowd.exports import v5, v5_record
from tests.overflowd.receivers import Reply, UdpReceiver, taking, udp_receiver
from tests.overflowd.running import Running, running, send

SOURCE, DESTINATION = "127.9.0.1", "127.9.0.2"
# So many packets that each is told of, and more octets than its notices have.
SURE = v5_record(SOURCE, DESTINATION, packets=10_000, octets=10_000_000)
PLENTY = "1000000/10s,1000000/1d"


@contextlib.asynccontextmanager
async def both_ends(reply: Reply) -> AsyncIterator[tuple[UdpReceiver, UdpReceiver]]:
    async with (
        udp_receiver(reply, SOURCE) as source,
        udp_receiver(reply, DESTINATION, source.port) as destination,
    ):
        yield source, destination


def words(folder: Path, port: int, **others: str) -> list[str]:
    given = {
        "netflow": "127.0.0.1:0", "odds": "0.01", "exporters": "127.0.0.1", "contact": "noc@carrier.example",
        "organisation": "A Carrier", "keys-url": "https://carrier.example/.well-known/overflowd/keys.json",
        "key-file": f"{folder}/keys.json", "state": f"sqlite:///{folder}/state.db", "collector": "this",
        "budgets": f"sqlite:///{folder}/budgets.db", "told": "127.9.0.0/16", "ways": "udp", "udp-port": str(port),
        "sealing": "never", "address-budget": PLENTY, "prefix-budget": PLENTY, "total-budget": PLENTY,
    }  # fmt: skip
    return ["--send", *(word for name, value in (given | others).items() for word in (f"--{name}", value))]


@contextlib.asynccontextmanager
async def collector(folder: Path, port: int, **others: str) -> AsyncIterator[Running]:
    """While the receivers of this process answer."""
    stack = contextlib.ExitStack()
    try:
        yield await asyncio.to_thread(stack.enter_context, running(*words(folder, port, **others)))
    finally:
        await asyncio.to_thread(stack.close)


def copies(folder: Path) -> list[tuple[str, str, str]]:
    """Nonce, end and state of each."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/state.db?mode=ro", uri=True)) as state:
        return state.execute("SELECT nonce, to_end, state FROM copies").fetchall()


async def until(folder: Path, count: int, *states: str) -> None:
    end = time.monotonic() + 60
    while sum(state in states for _, _, state in copies(folder)) < count:
        assert time.monotonic() < end, Counter(state for _, _, state in copies(folder))
        await asyncio.sleep(0.05)


def keys_of(found: Running) -> dict[str, OKPKey]:
    published = json.loads(found.get("/.well-known/overflowd/keys.json"))["keys"]
    return {each["kid"]: OKPKey.import_key(each) for each in published}


def read(raw: bytes, keys: dict[str, OKPKey]) -> Notice:
    message = messages.decode(raw)
    assert isinstance(message, messages.Sent)
    notice = verified(message.signed, keys)
    assert isinstance(notice, Notice), notice
    return notice


async def test_both_ends_are_told_by_notices_that_the_published_key_has_signed(tmp_path: Path) -> None:
    async with both_ends(taking) as (source, destination), collector(tmp_path, source.port) as running_one:
        await asyncio.to_thread(send, running_one.ports[0], [v5(*[SURE] * 20)])
        await until(tmp_path, 40, "sent")
        keys = await asyncio.to_thread(keys_of, running_one)
        for receiver, end in ((source, End.SOURCE), (destination, End.DESTINATION)):
            told = [read(raw, keys) for raw in receiver.got]
            assert {(each.to, str(each.flow.source), each.reporter.contact) for each in told} == {
                (end, SOURCE, "noc@carrier.example")
            }
            # Where this host is slow, one is sent once more after a second.
            assert len({each.nonce for each in told}) == len(set(receiver.got)) == 20
        assert await asyncio.to_thread(running_one.count, "notices", **{"class": "traffic"}) == 20
        assert await asyncio.to_thread(running_one.count, "copies_put") == 40
        status, last = await asyncio.to_thread(running_one.stop)
    assert (status, last["event"], last["notices"]) == (0, "stopped", 20)


async def test_a_dry_run_is_the_default_says_what_would_be_sent_and_sends_nothing(tmp_path: Path) -> None:
    others = {"told": "127.9.0.2/32", "own": "127.9.0.1/32"}
    small = v5_record("127.9.0.9", DESTINATION, packets=1_000, octets=4_000)
    async with both_ends(taking) as (source, destination):
        started = running(*words(tmp_path, source.port, **others)[1:])
        dry = await asyncio.to_thread(started.__enter__)
        try:
            await asyncio.to_thread(send, dry.ports[0], [v5(SURE, small)])
            printed = await asyncio.to_thread(dry.notices, 2)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)
        assert {each["flow"]["source"]: each["would"] for each in printed} == {
            SOURCE: {"source": "withheld: own", "destination": "send"},
            "127.9.0.9": {"source": "withheld: loopback", "destination": "withheld: larger-than-its-flow"},
        }
        assert (source.got, destination.got, list(tmp_path.iterdir())) == ([], [], [])
        # The same, not dry, gets there: it was not for want of a way.
        async with collector(tmp_path, source.port, **others) as running_one:
            await asyncio.to_thread(send, running_one.ports[0], [v5(SURE, small)])
            await until(tmp_path, 1, "sent")
            await until(tmp_path, 3, "withheld")
        assert (len(source.got), len(set(destination.got))) == (0, 1)


async def test_a_rotated_key_signs_when_it_is_told_to_be_used(tmp_path: Path) -> None:
    async with both_ends(taking) as (source, _), collector(tmp_path, source.port) as running_one:
        port = running_one.ports[0]
        await asyncio.to_thread(send, port, [v5(SURE)])
        await until(tmp_path, 2, "sent")
        rotate = [
            sys.executable,
            "-m",
            "jfe_cni.overflowd.cli.main",
            "keys",
            "rotate",
            "--key-file",
            f"{tmp_path}/keys.json",
        ]
        await asyncio.to_thread(subprocess.run, rotate, check=True, capture_output=True, timeout=60)
        running_one.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(running_one.read_log, 1)
        await asyncio.to_thread(send, port, [v5(SURE)])
        await until(tmp_path, 4, "sent")
        keys = await asyncio.to_thread(keys_of, running_one)
        assert running_one.log[-1]["event"] == "keys taken into use"
        assert list(dict.fromkeys(key_named(raw) for raw in source.got)) == list(reversed(keys))
        # A file that can't be read changes nothing.
        (tmp_path / "keys.json").chmod(0o644)
        running_one.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(running_one.read_log, 1)
        await asyncio.to_thread(send, port, [v5(SURE)])
        await until(tmp_path, 6, "sent")
        assert running_one.log[-1]["event"] == "keys refused"
        assert list(dict.fromkeys(key_named(raw) for raw in source.got)) == list(reversed(keys))
        assert len(set(source.got)) == 3


async def test_killed_at_any_moment_nothing_chosen_is_lost_and_nothing_sent_twice(tmp_path: Path) -> None:
    async with both_ends(taking) as (source, destination):
        chosen, lives = 0, list[Counter[tuple[End, str]]]()
        for life in range(3):
            async with collector(tmp_path, source.port) as running_one:
                for _ in range(life + 1):
                    await asyncio.to_thread(send, running_one.ports[0], [v5(*[SURE] * 30)])
                chosen += 30 * (life + 1)
                # As soon as it says so, they are durable; some are under way, and some wait.
                await asyncio.to_thread(running_one.wait_for, "notices", 30 * (life + 1), **{"class": "traffic"})
                running_one.process.kill()
                await asyncio.to_thread(running_one.process.wait)
            lives.append(_taken_out(source, destination))
            assert len(copies(tmp_path)) == 2 * chosen
        async with collector(tmp_path, source.port):
            await until(tmp_path, 2 * chosen, "sent", "unknown")
        lives.append(_taken_out(source, destination))
        told = set().union(*lives)
        by_state = Counter(state for _, _, state in copies(tmp_path))
        assert len(copies(tmp_path)) == 2 * chosen
        assert sum(map(len, lives)) == len(told), "what one life has sent is sent in no other"
        assert max(count for life in lives for count in life.values()) <= UDP_TRIES
        assert by_state["sent"] <= len(told) <= by_state["sent"] + by_state["unknown"]
        assert by_state["sent"] > 0


async def test_collectors_share_postgresql_and_wait_for_it_while_it_is_away(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, postgresql.server())
        url = await asyncio.to_thread(server.database)
        async with (
            both_ends(taking) as (source, destination),
            collector(tmp_path, source.port, state=url, collector="one") as one,
            collector(tmp_path, source.port, state=url, collector="other") as other,
        ):
            for each in (one, other):
                await asyncio.to_thread(send, each.ports[0], [v5(*[SURE] * 10)])
            await asyncio.to_thread(_wait_for_rows, url, 40)
            await asyncio.to_thread(server.stop)
            for each in (one, other):
                await asyncio.to_thread(send, each.ports[0], [v5(*[SURE] * 10)])
                await asyncio.to_thread(each.wait_for, "put_failures", 1)
                with pytest.raises(urllib.error.HTTPError, match="503"):
                    await asyncio.to_thread(each.get, "/readyz")
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(_wait_for_rows, url, 80)
            for each in (one, other):
                await asyncio.to_thread(each.get, "/readyz")
                assert await asyncio.to_thread(each.count, "notices_lost") == 0
            assert Counter(_digests(source, destination)).most_common(1)[0][1] <= UDP_TRIES
            for each in (one, other):
                assert (await asyncio.to_thread(each.stop))[0] == 0


def _wait_for_rows(url: str, count: int) -> None:
    """That are sent."""
    end = time.monotonic() + 60
    while True:
        with psycopg.connect(url) as connection:
            found: dict[str, int] = dict(
                connection.execute("SELECT state, count(*) FROM copies GROUP BY state").fetchall()
            )
        if found.get("sent", 0) + found.get("unknown", 0) >= count:
            return
        assert time.monotonic() < end, found
        time.sleep(0.05)


def _digests(source: UdpReceiver, destination: UdpReceiver) -> Iterator[tuple[End, str]]:
    """Of each datagram with a notice."""
    for end, receiver in ((End.SOURCE, source), (End.DESTINATION, destination)):
        for raw in receiver.got:
            message = messages.decode(raw)
            assert isinstance(message, messages.Sent)
            yield end, messages.digest(message.signed)


def _taken_out(source: UdpReceiver, destination: UdpReceiver) -> Counter[tuple[End, str]]:
    """What has come since the last time, by now."""
    for each in (source, destination):
        each.drain()
    found = Counter(_digests(source, destination))
    for each in (source, destination):
        each.got.clear()
    return found


async def test_a_key_that_is_rotated_while_it_starts_ends_nothing(tmp_path: Path) -> None:
    """The state waits for another's transaction, and SIGHUP comes meanwhile."""
    async with both_ends(taking) as (source, _):
        async with collector(tmp_path, source.port):
            pass
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "run", "--listen", "127.0.0.1:0"]
            command += words(tmp_path, source.port)
            started = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            try:
                await asyncio.to_thread(_wait_until_caught, started.pid, signal.SIGHUP)
                started.send_signal(signal.SIGHUP)
                other.execute("ROLLBACK")
                assert started.stderr is not None
                said = [json.loads(await started.stderr.readline())["event"] for _ in range(2)]
                assert sorted(said) == ["collecting", "keys taken into use"]
            finally:
                started.kill()
                await started.wait()


def _wait_until_caught(process: int, number: signal.Signals) -> None:
    """Until it has a handler (proc_pid_status(5)), which it sets before it opens its state."""
    end = time.monotonic() + 60
    while True:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        if int(status["SigCgt"], 16) & 1 << (number - 1):
            return
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "[" * 60_000])
async def test_a_key_file_that_is_no_file_of_keys_at_all_changes_nothing(content: str, tmp_path: Path) -> None:
    """Nor one that is nested deeper than it can be read."""
    async with both_ends(taking) as (source, _), collector(tmp_path, source.port) as running_one:
        (tmp_path / "keys.json").write_text(content)
        running_one.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(running_one.read_log, 1)
        assert running_one.log[-1]["event"] == "keys refused"
        await asyncio.to_thread(send, running_one.ports[0], [v5(SURE)])
        await until(tmp_path, 2, "sent")
        assert len({key_named(raw) for raw in source.got}) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("organisation", "x" * 257),
        ("organisation", "two\nlines"),
        ("organisation", "\N{GRINNING FACE}" * 256),
        ("contact", "x" * 257),
        ("keys_url", f"https://carrier.example/{'x' * 257}"),
    ],
)
def test_what_no_receiver_would_take_is_said_before_anything_is_sent(name: str, text: str) -> None:
    with pytest.raises(RequestError, match=f"--{name.replace('_', '-')} can't be in a notice"):
        SETTINGS.read({name: text}, {})
    assert getattr(SETTINGS.read({name: "x" * 256}, {}), name) == "x" * 256


async def test_nothing_is_sent_without_a_name_to_answer_for_it() -> None:
    command = [sys.executable, "-m", "jfe_cni.overflowd.cli.main", "run", "--netflow", "127.0.0.1:0", "--send"]
    ended = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 64
    assert "--send needs --exporters" in ended.stderr
