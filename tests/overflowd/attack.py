"""An attack as a receiver hears of it, and what a person sees then: `python -m tests.overflowd.attack PNG` makes the
picture in the docs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import httpx

from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH
from jfe_cni.overflowd.notices.notice import Class, End, TracedFlow
from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.selection import suspicion
from tests.overflowd.browser import browser
from tests.overflowd.receiving import Publisher, authority, laboratory, publishing, started, until
from tests.overflowd.test_notices import FLOW

SIDES = (suspicion.Side.OFF_ROUTE_OUTSIDE.value, suspicion.Side.INSIDE.value)
MINUTE = 60 * 1_000_000
VICTIM, WEB, FORGED = (ip_address(f"203.0.113.{each}") for each in (9, 10, 80))
WIDTH, HEIGHT = 1_240, 1_260


class Time:
    """Goes when it is told to."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@contextlib.asynccontextmanager
async def attacked(folder: Path) -> AsyncIterator[Receiver]:
    """Its receiver, an hour later: servers made to answer to it, a flood of SYN from forged sources, and somebody who
    uses an address of its own to have others answered."""
    trusted, clock = authority(folder), Time(time.time_ns() // 1_000)
    async with contextlib.AsyncExitStack() as stack:
        names = {"carrier.example": "A Carrier", "exchange.example": "An Exchange", "campus.example": "A University"}
        publishers = [await stack.enter_async_context(publishing(trusted, name)) for name in names]
        settings = laboratory(folder, trusted, *publishers, source_notices=1_000_000, all_notices=1_000_000)
        receiver = await stack.enter_async_context(started(settings, clock=clock))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=receiver.http, trust_env=False))
        draw, end = random.Random(7), clock.now
        for minute in range(-58, 1):
            clock.now = end + minute * MINUTE
            told = _told(minute, publishers, list(names.values()), draw, clock.now)
            # Together: they share a commit.
            sending = (http.post(PATH, content=each, headers={"content-type": CONTENT_TYPE}) for each in told)
            for answer in await asyncio.gather(*sending):
                answer.raise_for_status()
        yield receiver


def _told(minute: int, publishers: list[Publisher], names: list[str], draw: random.Random, now: int) -> list[bytes]:
    def one(who: int, classified: Class, flow: TracedFlow, to: End = End.DESTINATION, *evidence: str) -> bytes:
        of = publishers[who]
        reporter = replace(of.notice().reporter, organisation=names[who])
        return of.signed(
            made=now, classified=classified, odds=1e-5, flow=flow, to=to, evidence=evidence, reporter=reporter
        )

    told = []
    web = replace(FLOW, destination=WEB, source_port=50_000, destination_port=443, protocol=6)
    if minute % 7 == 0:
        told.append(one(0, Class.TRAFFIC, web))
    for _ in range(max(0, min(minute + 45, 9))):
        server = ip_address(f"198.51.{draw.randrange(100)}.{draw.randrange(1, 250)}")
        flow = replace(FLOW, source=server, destination=VICTIM, destination_port=draw.randrange(1_024, 65_536))
        told.append(one(draw.randrange(3), Class.FAN_IN, flow, End.DESTINATION, "about 900 sources in a minute"))
    for _ in range(max(0, min((minute + 20) // 2, 5))):
        source = ip_address(f"192.0.2.{draw.randrange(1, 9)}")
        flow = replace(FLOW, source=source, destination=VICTIM, protocol=6, source_port=61_000, destination_port=443)
        who = draw.randrange(2)
        told.append(one(who, Class.SPOOFED_SOURCE, flow, End.DESTINATION, SIDES[who]))
    if minute > -10:
        flow = replace(FLOW, source=FORGED, destination=ip_address("198.51.100.7"), source_port=40_000)
        told.append(one(minute % 2, Class.SPOOFED_SOURCE, flow, End.SOURCE, SIDES[0]))
    return told


async def picture(folder: Path) -> bytes:
    """PNG of what the person sees."""
    async with attacked(folder) as receiver, browser() as page:
        await page.size(WIDTH, HEIGHT)
        await page.open(receiver.page)
        await until(lambda: page.evaluate("document.getElementById('live').textContent === 'Live.'"))
        await until(lambda: page.evaluate("document.querySelectorAll('tbody tr').length >= 4"))
        return await page.screenshot()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(sys.argv[1]).write_bytes(asyncio.run(picture(Path(folder))))


if __name__ == "__main__":
    main()
