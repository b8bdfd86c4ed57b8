"""The control protocol's messages as the agent says and hears them; upgrader/control/src/message.rs is the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jfe_cni.agent.decoding import decode
from jfe_cni.agent.objects import DirectoryEntry, Mode, Shape, WorkloadSettings
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.errors import IdentityError, JfeError, KernelError, NamespaceGone, RequestError, UpgraderError

# upgrader/control: a longer frame ends the connection.
FRAME_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Identity:
    """`key` is in no repr and no log."""

    id: str
    certificates: str
    key: str = field(repr=False)
    trust_bundle: str


@dataclass(frozen=True)
class UpgraderWorkload:
    id: str
    shape: Shape
    mode: Mode
    identity: Identity
    mark: int
    settings: WorkloadSettings


@dataclass(frozen=True)
class Listeners:
    """Ports on 127.0.0.1 and, with `ipv6`, on ::1."""

    outbound: int
    inbound: int
    ipv6: bool


@dataclass(frozen=True)
class Counter:
    """Increments since the last event of the kind."""

    workload: str
    direction: str
    decision: str
    reason: str
    connections: int
    bytes_sent: int
    bytes_received: int
    handshakes: int
    handshake_microseconds: int


@dataclass(frozen=True)
class Counters:
    counters: tuple[Counter, ...]


@dataclass(frozen=True)
class WorkerReplaced:
    worker: int


@dataclass(frozen=True)
class ConnectionEventsLost:
    count: int


Event = ConnectionReport | Counters | WorkerReplaced | ConnectionEventsLost
Word = Mapping[str, Any]


def add_workload(workload: UpgraderWorkload) -> Word:
    identity = {
        "id": workload.identity.id,
        "certificates": workload.identity.certificates,
        "key": workload.identity.key,
        "trust_bundle": workload.identity.trust_bundle,
    }
    return {
        "word": "add",
        "object": {
            "workload": {
                "id": workload.id,
                "shape": workload.shape,
                "mode": workload.mode,
                "identity": identity,
                "mark": workload.mark,
                "settings": workload.settings.as_json(),
            }
        },
    }


def add_directory(entries: Sequence[DirectoryEntry]) -> Word:
    return {"word": "add", "object": {"directory": [entry.as_json() for entry in entries]}}


def remove_directory(entries: Sequence[DirectoryEntry]) -> Word:
    keys = [{"network": str(entry.network), "port": entry.port} for entry in entries]
    return {"word": "del", "name": {"directory": keys}}


def keep(workload: str) -> Word:
    return {"word": "keep", "workload": workload}


def remove_workload(workload: str) -> Word:
    return {"word": "del", "name": {"workload": workload}}


SNAPSHOT_SENT: Word = {"word": "snapshot_sent"}
WANT_CONNECTIONS: Word = {"word": "add", "object": "connection_events"}
UNWANT_CONNECTIONS: Word = {"word": "del", "name": "connection_events"}


def frame(seq: int, word: Word) -> bytes:
    """u32 big-endian length, then JSON."""
    body = json.dumps({"seq": seq, **word}, separators=(",", ":")).encode()
    if len(body) > FRAME_LIMIT:
        raise RequestError(f"a message of {len(body)} bytes is over 16 MiB", remedy="send the directory in parts")
    return len(body).to_bytes(4, "big") + body


def parse(body: bytes) -> tuple[int | None, Mapping[str, Any]]:
    """(seq, message): seq None for an event. Raises UpgraderError where it is neither."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpgraderError(
            "the upgrader says what is not JSON", remedy="agent and upgrader must be of one version"
        ) from error
    match message:
        case {"seq": int(seq), "answer": str()}:
            return seq, message
        case {"event": str()}:
            return None, message
        case _:
            raise UpgraderError(
                "the upgrader says what is neither answer nor event", remedy="agent and upgrader must be of one version"
            )


def event_of(message: Mapping[str, Any]) -> Event | None:
    """None: an event of a kind that this version does not know."""
    match message["event"]:
        case "connection":
            tls = message.get("tls") or {}
            return decode(
                ConnectionReport,
                {
                    **message,
                    "tls_version": tls.get("version"),
                    "cipher": tls.get("cipher"),
                    "key_exchange": tls.get("key_exchange"),
                },
            )
        case "counters":
            return decode(Counters, message)
        case "worker_replaced":
            return decode(WorkerReplaced, message)
        case "connection_events_lost":
            return decode(ConnectionEventsLost, message)
        case _:
            return None


def listeners_of(answer: Mapping[str, Any]) -> Listeners | None:
    """The listeners of an answer to `add` of a workload or `keep`; None: the upgrader does not know the workload."""
    _refuse_failure(answer)
    if answer["answer"] == "unknown":
        return None
    return decode(Listeners, answer)


def expect_done(answer: Mapping[str, Any]) -> None:
    """Raises the error that `failed` stands for."""
    _refuse_failure(answer)


_FAILURES: dict[str, type[JfeError]] = {
    "bad_request": RequestError,
    "bad_identity": IdentityError,
    "namespace_gone": NamespaceGone,
    "exhausted": UpgraderError,
    "kernel": KernelError,
}


def _refuse_failure(answer: Mapping[str, Any]) -> None:
    if answer["answer"] != "failed":
        return
    kind, message = str(answer.get("kind")), str(answer.get("message"))
    raise _FAILURES.get(kind, UpgraderError)(f"the upgrader refused: {message}")
