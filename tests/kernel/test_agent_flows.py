"""An agent that nobody else asks for connections tells of them, and goes on when somebody has looked and left."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from jfe_cni.overflowd.datagrams import Datagram, address_of
from jfe_cni.overflowd.decoders import Decoder
from tests.kernel import lab
from tests.kernel.agent_node import Node
from tests.kernel.lab import Host
from tests.stage.namespace import ExistingNamespace

PORT, COLLECTOR_PORT = 9999, 4739


@pytest.fixture
def sink(peer: Host) -> Iterator[socket.socket]:
    with ExistingNamespace(peer.name, peer.path).socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((peer.ipv4, COLLECTOR_PORT))
        made.setblocking(False)
        yield made


class Told:
    """The client's ports of the connections that have been told."""

    def __init__(self, sink: socket.socket) -> None:
        self._sink = sink
        self._datagrams: list[Datagram] = []

    def ports(self, source: str) -> set[int]:
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, (exporter, _) = self._sink.recvfrom(65_536)
                self._datagrams.append(Datagram(ip_address(exporter), COLLECTOR_PORT, 0, payload))
        batches = Decoder().decode(self._datagrams)
        rows = [row for batch in batches for row in batch.flows]
        return {int(row["source_port"]) for row in rows if str(address_of(row["source"].tobytes())) == source}


def test_flows_are_told_whether_or_not_somebody_else_follows_connections(
    idle: Node, pod: Host, peer: Host, sink: socket.socket
) -> None:
    # Asked again it would be wanted again.
    idle.start("--flows-to", f"{peer.ipv4}:{COLLECTOR_PORT}", "--flows-every", "600")
    idle.enrol(pod, "permissive")
    peer.echo(peer.ipv4, PORT)
    told = Told(sink)
    for expected in (1, 2, 3):
        assert pod.ask(peer.ipv4, PORT, b"word") == pod.ipv4.encode() + b" word"
        lab.until(lambda n=expected: len(told.ports(pod.ipv4)) == n, "the connection is told")  # type: ignore[misc]
        # Who looks and leaves does not end it.
        assert idle.ask("connections") == []
