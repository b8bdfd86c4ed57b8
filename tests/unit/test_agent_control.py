"""The control connection as dialogues over a real Unix socket: what the agent says, and what it makes of answers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jfe_cni.agent import messages
from jfe_cni.agent.control import Control
from jfe_cni.agent.messages import (
    ConnectionEventsLost,
    Counters,
    Event,
    Identity,
    Listeners,
    UpgraderWorkload,
    WorkerReplaced,
)
from jfe_cni.agent.objects import WorkloadSettings
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.errors import IdentityError, KernelError, NamespaceGone, RequestError, UpgraderError

SECRET = "-----BEGIN PRIVATE KEY-----"
WORKLOAD = UpgraderWorkload(
    "w1",
    "namespace",
    "strict",
    Identity("spiffe://d/x", "CERTIFICATE", SECRET, "ROOTS"),
    0x400000,
    WorkloadSettings(excluded_inbound_ports=(22,)),
)


class Broker:
    """The other end, played by the test."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    async def hears(self) -> dict[str, Any]:
        length = int.from_bytes(await self._exactly(4), "big")
        heard: dict[str, Any] = json.loads(await self._exactly(length))
        return heard

    async def hears_with_descriptors(self) -> tuple[dict[str, Any], list[int]]:
        first, descriptors, _, _ = socket.recv_fds(self._socket, 1, 4)
        length = int.from_bytes(first + await self._exactly(3), "big")
        return json.loads(await self._exactly(length)), descriptors

    async def says(self, message: dict[str, Any]) -> None:
        await self.says_bytes(json.dumps(message).encode())

    async def says_bytes(self, body: bytes) -> None:
        await self._loop.sock_sendall(self._socket, len(body).to_bytes(4, "big") + body)

    async def says_raw(self, raw: bytes) -> None:
        await self._loop.sock_sendall(self._socket, raw)

    def hangs_up(self) -> None:
        self._socket.close()

    async def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            got += await self._loop.sock_recv(self._socket, count - len(got))
        return got


class Dialogue:
    def __init__(self, control: Control, broker: Broker, events: list[Event]) -> None:
        self.control = control
        self.broker = broker
        self.events = events


@pytest_asyncio.fixture
async def dialogue() -> AsyncIterator[Dialogue]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.settimeout(0)
    events: list[Event] = []
    control = Control(ours, events.append)
    yield Dialogue(control, Broker(theirs), events)
    await control.close()
    theirs.close()


async def test_a_workload_is_added_with_its_namespace_on_the_first_byte(dialogue: Dialogue, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("the namespace")
    with (tmp_path / "namespace").open() as file:
        asking = asyncio.create_task(dialogue.control.ask(messages.add_workload(WORKLOAD), [file.fileno()]))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        heard, descriptors = await dialogue.broker.hears_with_descriptors()
    (descriptor,) = descriptors
    assert os.read(descriptor, 100) == b"the namespace"
    os.close(descriptor)
    assert heard == {
        "seq": 1,
        "word": "add",
        "object": {
            "workload": {
                "id": "w1",
                "shape": "namespace",
                "mode": "strict",
                "identity": {
                    "id": "spiffe://d/x",
                    "certificates": "CERTIFICATE",
                    "key": SECRET,
                    "trust_bundle": "ROOTS",
                },
                "mark": 0x400000,
                "settings": WORKLOAD.settings.as_json(),
            }
        },
    }
    await dialogue.broker.says({"seq": 1, "answer": "listening", "outbound": 61001, "inbound": 61002, "ipv6": True})
    assert messages.listeners_of(await asking) == Listeners(61001, 61002, ipv6=True)


async def test_answers_find_their_question_whatever_comes_between(dialogue: Dialogue) -> None:
    first = asyncio.create_task(dialogue.control.ask(messages.keep("w1")))
    second = asyncio.create_task(dialogue.control.ask(messages.SNAPSHOT_SENT))
    assert await dialogue.broker.hears() == {"seq": 1, "word": "keep", "workload": "w1"}
    assert await dialogue.broker.hears() == {"seq": 2, "word": "snapshot_sent"}
    await dialogue.broker.says({"seq": 2, "answer": "done"})
    await dialogue.broker.says({"event": "worker_replaced", "worker": 3})
    await dialogue.broker.says({"seq": 1, "answer": "unknown"})
    assert messages.listeners_of(await first) is None
    messages.expect_done(await second)
    assert dialogue.events == [WorkerReplaced(3)]


async def test_events_come_in_order_and_an_unknown_kind_is_let_pass(dialogue: Dialogue) -> None:
    connection = {
        "number": 7,
        "phase": "decided",
        "workload": "w1",
        "direction": "outbound",
        "source": "10.1.0.5:40000",
        "destination": "10.2.0.9:80",
        "decision": "upgrade",
        "reason": "mutual",
        "peer": "spiffe://d/y",
        "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256", "key_exchange": "X25519MLKEM768"},
        "bytes_sent": 1,
        "bytes_received": 2,
        "handshake_microseconds": 900,
    }
    counter = {
        "workload": "w1",
        "direction": "outbound",
        "decision": "upgrade",
        "reason": "mutual",
        "connections": 1,
        "bytes_sent": 1,
        "bytes_received": 2,
        "handshakes": 1,
        "handshake_microseconds": 900,
    }
    await dialogue.broker.says({"event": "connection", **connection})
    await dialogue.broker.says({"event": "of-a-later-version"})
    await dialogue.broker.says({"event": "counters", "counters": [counter]})
    await dialogue.broker.says({"event": "connection_events_lost", "count": 4})
    keeping = asyncio.create_task(dialogue.control.ask(messages.keep("w1")))
    await dialogue.broker.hears()
    await dialogue.broker.says({"seq": 1, "answer": "unknown"})
    await keeping
    reported, counters, lost = dialogue.events
    assert isinstance(reported, ConnectionReport)
    assert (reported.tls_version, reported.key_exchange, reported.peer) == ("TLSv1.3", "X25519MLKEM768", "spiffe://d/y")
    assert isinstance(counters, Counters)
    assert counters.counters[0].handshake_microseconds == 900
    assert lost == ConnectionEventsLost(4)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("bad_request", RequestError),
        ("bad_identity", IdentityError),
        ("namespace_gone", NamespaceGone),
        ("exhausted", UpgraderError),
        ("kernel", KernelError),
        ("of-a-later-version", UpgraderError),
    ],
)
async def test_a_refusal_is_raised_as_whose_fault_it_is(dialogue: Dialogue, kind: str, fault: type[Exception]) -> None:
    asking = asyncio.create_task(dialogue.control.ask(messages.keep("w1")))
    await dialogue.broker.hears()
    await dialogue.broker.says({"seq": 1, "answer": "failed", "kind": kind, "message": "what is wrong"})
    with pytest.raises(fault, match="what is wrong"):
        messages.listeners_of(await asking)


async def test_whoever_waits_learns_that_the_upgrader_went_away(dialogue: Dialogue) -> None:
    asking = asyncio.create_task(dialogue.control.ask(messages.SNAPSHOT_SENT))
    await dialogue.broker.hears()
    dialogue.broker.hangs_up()
    with pytest.raises(UpgraderError, match="went away"):
        await asking
    assert dialogue.control.closed.is_set()
    with pytest.raises(UpgraderError, match="not connected"):
        await dialogue.control.ask(messages.SNAPSHOT_SENT)


@pytest.mark.parametrize("garbage", [b"garbage", b"[]", b'{"seq": "1", "answer": "done"}', b"\xff", b"[" * 100_000])
async def test_garbage_ends_the_connection_and_nothing_else(dialogue: Dialogue, garbage: bytes) -> None:
    await dialogue.broker.says_bytes(garbage)
    await asyncio.wait_for(dialogue.control.closed.wait(), 10)
    assert dialogue.events == []


async def test_a_frame_that_claims_to_be_huge_is_not_waited_for(dialogue: Dialogue) -> None:
    await dialogue.broker.says_raw(b"\xff\xff\xff\xff")
    await asyncio.wait_for(dialogue.control.closed.wait(), 10)


async def test_events_without_end_leave_others_their_turn() -> None:
    """What can be read at once is read without waiting: a busy upgrader must not keep the agent from all else."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    event = json.dumps({"event": "worker_replaced", "worker": 3}).encode()
    events: list[Event] = []
    first = asyncio.Event()

    def answered_by_the_next(taken: Event) -> None:
        events.append(taken)
        first.set()
        if len(events) < 5000:
            theirs.sendall(len(event).to_bytes(4, "big") + event)

    control = Control(ours, answered_by_the_next)
    theirs.sendall(len(event).to_bytes(4, "big") + event)
    await first.wait()
    assert len(events) < 5000
    await control.close()
    theirs.close()


async def test_a_caller_that_gives_up_leaves_no_half_frame_behind(dialogue: Dialogue) -> None:
    huge = {"word": "keep", "workload": "w" * 4_000_000}
    giving_up = asyncio.create_task(dialogue.control.ask(huge))
    await asyncio.sleep(0.05)
    giving_up.cancel()
    after = asyncio.create_task(dialogue.control.ask(messages.SNAPSHOT_SENT))
    assert (await dialogue.broker.hears())["seq"] == 1
    assert await dialogue.broker.hears() == {"seq": 2, "word": "snapshot_sent"}
    await dialogue.broker.says({"seq": 1, "answer": "unknown"})
    await dialogue.broker.says({"seq": 2, "answer": "done"})
    messages.expect_done(await after)


def test_a_message_over_the_limit_is_refused_here() -> None:
    with pytest.raises(RequestError, match="16 MiB"):
        messages.frame(1, {"word": "keep", "workload": "w" * messages.FRAME_LIMIT})


def test_a_key_is_in_no_repr() -> None:
    assert SECRET not in repr(WORKLOAD)
