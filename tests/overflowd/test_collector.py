"""The collector's thread and its outbox: what is chosen is put before more is read, however often that is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence

import pytest

from jfe_cni.errors import HostError
from jfe_cni.overflowd.collector.collect import MOST, SHARE
from jfe_cni.overflowd.collector.service import opened
from jfe_cni.overflowd.collector.settings import CollectorSettings
from jfe_cni.overflowd.decoders import Format
from jfe_cni.overflowd.dropped import Dropped
from jfe_cni.overflowd.notices.notice import Notice
from tests.overflowd.exports import v5, v5_record
from tests.overflowd.running import send

SETTINGS = CollectorSettings(netflow=("127.0.0.1:0",), odds=0.01, stop_timeout=1.0)
# However slow the machine is.
PATIENT = dataclasses.replace(SETTINGS, stop_timeout=60.0)
SURE = v5(v5_record("198.51.100.1", "203.0.113.9", packets=1_000_000))


class Listed:
    """An outbox in memory."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.taken: list[Notice] = []
        self.puts: list[int] = []
        self.refuses = refuses
        self._changed = asyncio.Condition()

    async def put(self, notices: Sequence[Notice]) -> None:
        async with self._changed:
            self.puts.append(len(notices))
            if not self.refuses:
                self.taken += notices
            self._changed.notify_all()
        if self.refuses:
            raise HostError("no room", "wait")

    async def tried(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.puts) >= count)

    async def took(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)


class Stuck(Listed):
    """One that answers nothing, as a database does whose host is gone."""

    async def put(self, notices: Sequence[Notice]) -> None:
        await asyncio.Event().wait()


async def test_it_ends_though_the_outbox_does_not_answer_and_what_was_lost_is_counted() -> None:
    outbox, stop = Stuck(), asyncio.Event()
    with opened(SETTINGS, outbox) as collector:
        task = asyncio.create_task(collector.run(stop))
        send(collector.ports[0], [SURE])
        async with asyncio.timeout(60):
            while not collector.counts.datagrams.total():  # noqa: ASYNC110 - counted by another thread
                await asyncio.sleep(0.01)
            stop.set()
            await task
    assert collector.counts.lost == 1


async def test_what_the_outbox_refuses_is_put_again_and_meanwhile_nothing_is_read() -> None:
    outbox, stop = Listed(refuses=True), asyncio.Event()
    with opened(PATIENT, outbox) as collector:
        task = asyncio.create_task(collector.run(stop))
        send(collector.ports[0], [SURE])
        await outbox.tried(1)
        send(collector.ports[0], [SURE] * 9)
        await outbox.tried(2)
        assert isinstance(collector.refused, HostError)
        assert collector.counts.datagrams.total() == 1
        outbox.refuses = False
        await outbox.took(10)
        stop.set()
        await task
    assert outbox.puts[:3] == [1, 1, 1]
    assert collector.refused is None
    assert (collector.counts.put_failures, collector.counts.lost) == (2, 0)
    assert collector.counts.unsampled == {Format.NETFLOW_V5: 10}
    assert len({notice.nonce for notice in outbox.taken}) == 10


async def test_what_an_outbox_never_takes_is_accounted_for_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    outbox, stop = Listed(refuses=True), asyncio.Event()
    with opened(SETTINGS, outbox) as collector, caplog.at_level(logging.ERROR):
        task = asyncio.create_task(collector.run(stop))
        send(collector.ports[0], [SURE] * 3)
        await outbox.tried(1)
        stop.set()
        await task
    assert not outbox.taken
    assert collector.counts.lost == 3
    lost = [record for record in caplog.records if record.message == "notice lost"]
    assert len({record.structured_fields["nonce"] for record in lost}) == 3  # type: ignore[attr-defined]


async def test_a_flood_is_read_in_parts_and_each_is_put_before_the_next() -> None:
    outbox, stop = Listed(), asyncio.Event()
    with opened(PATIENT, outbox) as collector:
        send(collector.ports[0], [SURE] * (2 * MOST + 10))
        stop.set()
        await collector.run(stop)
    assert len(outbox.taken) == 2 * MOST + 10
    assert len(outbox.puts) >= 3
    assert max(outbox.puts) <= MOST + 256


async def test_one_exporter_whose_flows_are_all_chosen_has_its_share_and_another_is_heard() -> None:
    outbox, stop = Listed(), asyncio.Event()
    packets = v5(*[v5_record("198.51.100.1", "203.0.113.9", packets=2**32 - 1)] * 30)
    elsewhere = v5(v5_record("198.51.100.1", "203.0.113.10", packets=1_000_000))
    with opened(PATIENT, outbox) as collector:
        send(collector.ports[0], [packets] * 1_000)
        send(collector.ports[0], [elsewhere], source="127.0.0.2")
        stop.set()
        await collector.run(stop)
    assert len([each for each in outbox.taken if each.flow.packets == 1_000_000]) == 1
    assert len(outbox.taken) == SHARE + 1
    assert collector.counts.dropped == {Dropped.TOO_MANY_NOTICES: 30_000 - SHARE}


async def test_the_event_loop_goes_on_while_a_flood_is_decoded() -> None:
    outbox, stop, turns = Listed(), asyncio.Event(), 0
    with opened(PATIENT, outbox) as collector:
        send(collector.ports[0], [v5(*[v5_record("198.51.100.1", "203.0.113.9")] * 30)] * 10_000)
        task = asyncio.create_task(collector.run(stop))
        while collector.counts.flows.total() < 300_000:
            turns += 1
            await asyncio.sleep(0.001)
        stop.set()
        await task
    assert turns > 1
