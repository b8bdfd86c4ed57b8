"""The way to a collector, by real sockets on the loopback: what is sent, what is counted, and that nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from jfe_cni.agent.flows.collector import CollectorLink
from jfe_cni.agent.flows.connections import ConnectionFlows
from jfe_cni.agent.flows.counts import FlowCounts
from jfe_cni.agent.flows.exporter import exporter_of
from jfe_cni.agent.flows.flow import EndReason, Ends, Flow, Origin
from jfe_cni.agent.flows.ipfix import Encoder
from jfe_cni.agent.flows.unsent import Absent, Unsent
from jfe_cni.agent.settings import Settings
from jfe_cni.errors import RequestError, UpgraderError
from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder

NOW = 1_800_000_000.0
LOOPBACK = "127.0.0.1"
# asm-generic/socket.h: beyond net.core.rmem_max, for root.
SO_RCVBUFFORCE = 33


def flows(count: int) -> list[Flow]:
    ends = Ends(ip_address("192.0.2.1"), 40_000, ip_address("198.51.100.7"), 53)
    return [Flow(ends, 17, 1 + number, 100, 1, 2, EndReason.IDLE) for number in range(count)]


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((LOOPBACK, port))
        sink.setblocking(False)
        yield sink


def heard(sink: socket.socket) -> list[int]:
    """The packets of each flow that has come."""
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            payload, (exporter, _) = sink.recvfrom(65_536)
            datagrams.append(Datagram(ip_address(exporter), 4739, 0, payload))
    decoder = Decoder()
    batches = decoder.decode(datagrams)
    assert not decoder.drops
    return [int(packets) for batch in batches for packets in batch.flows["packets"]]


@contextlib.contextmanager
def linked(host: str, port: int) -> Iterator[tuple[CollectorLink, FlowCounts]]:
    counts = FlowCounts()
    link = CollectorLink((host, port), Encoder(1), counts)
    try:
        yield link, counts
    finally:
        link.close()


async def test_a_collector_is_found_by_name_and_gets_everything() -> None:
    with listening() as sink, linked("localhost", sink.getsockname()[1]) as (link, counts):
        await link.send(flows(500), Origin.CONNTRACK, NOW)
        assert sorted(heard(sink)) == list(range(1, 501))
    assert (counts.sent, counts.unsent.total()) == ({Origin.CONNTRACK: 500}, 0)


async def test_an_agent_that_ends_in_the_middle_sends_the_rest_at_once() -> None:
    with listening() as sink, linked(LOOPBACK, sink.getsockname()[1]) as (link, counts):
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sending = asyncio.create_task(link.send(flows(5000), Origin.CONNTRACK, NOW))
        async with asyncio.timeout(30):
            first = await asyncio.get_running_loop().sock_recv(sink, 65_536)
        assert first
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert counts.sent == {Origin.CONNTRACK: 5000}


@pytest.mark.parametrize("name", ["nowhere.invalid", "x" * 64 + ".invalid"])
async def test_a_name_that_leads_nowhere_costs_the_flows_and_nothing_else(name: str) -> None:
    """RFC 2606: nobody's; RFC 1035, section 2.3.4: nor can it be anybody's."""
    with linked(name, 4739) as (link, counts):
        await link.send(flows(3), Origin.UPGRADER, NOW)
    assert (counts.sent.total(), counts.unsent) == (0, {Unsent.COLLECTOR_AWAY: 3})


async def test_where_nobody_listens_that_is_counted_and_who_comes_later_gets_templates_first() -> None:
    with listening() as free:
        port = free.getsockname()[1]
    with linked(LOOPBACK, port) as (link, counts):
        # The first datagram brings the refusal, which the next one is told of.
        await link.send(flows(1), Origin.UPGRADER, NOW)
        await link.send(flows(1), Origin.UPGRADER, NOW)
        assert counts.unsent[Unsent.COLLECTOR_AWAY] > 0
        with listening(port) as sink:
            for _ in range(3):
                await link.send(flows(2), Origin.UPGRADER, NOW)
            assert heard(sink).count(2) >= 2
    assert counts.sent[Origin.UPGRADER] + counts.unsent[Unsent.COLLECTOR_AWAY] == 8


async def test_what_the_kernel_does_not_take_is_counted() -> None:
    # To the broadcast address nobody sends without SO_BROADCAST (ip(7)); the connection is refused, then tried anew.
    with linked("255.255.255.255", 4739) as (link, counts):
        await link.send(flows(3), Origin.UPGRADER, NOW)
    assert counts.sent.total() == 0
    assert counts.unsent.total() == 3


async def test_without_an_upgrader_nothing_is_told_and_nothing_fails() -> None:
    async def away() -> None:
        raise UpgraderError("there is none", "wait")

    counts = FlowCounts()
    with listening() as sink:
        settings = Settings(flows_every=0.1, flows_conntrack="off")
        connections = ConnectionFlows(counts.unsent)
        exporter = exporter_of(
            *(settings, connections, counts),
            collector=(LOOPBACK, sink.getsockname()[1]),
            ask_again=away,
            clock=lambda: datetime.now(UTC),
            log=logging.getLogger("test"),
        )
        running = asyncio.create_task(exporter.run())
        async with asyncio.timeout(30):
            templates = await asyncio.get_running_loop().sock_recv(sink, 65_536)
        assert templates
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert heard(sink) == []


def test_each_reason_is_a_label() -> None:
    counts = FlowCounts()
    counts.unsent[Unsent.OVERRUN] += 2
    counts.absent = lambda: Absent.NOT_ACCOUNTED
    registry = CollectorRegistry()
    registry.register(counts)
    text = generate_latest(registry).decode()
    for reason in Unsent:
        assert f'jfe_flows_unsent_total{{reason="{reason}"}} {2.0 if reason is Unsent.OVERRUN else 0.0}' in text
    for absent in Absent:
        value = 1.0 if absent is Absent.NOT_ACCOUNTED else 0.0
        assert f'jfe_flows_conntrack_absent{{reason="{absent}"}} {value}' in text


@pytest.mark.parametrize("every", [0.0, 3601.0])
def test_an_interval_that_makes_no_sense_is_refused(every: float, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        Settings(state_dir=tmp_path, flows_every=every)
