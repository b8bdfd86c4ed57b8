"""What the receiver tells of what it took: events, webhooks, health and metrics, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from jfe_cni.overflowd.receiver.service import Receiver
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.receiver.webhooks import SIGNATURE
from tests.overflowd.receiving import (
    DEADLINE,
    Authority,
    Publisher,
    client,
    floods,
    laboratory,
    metric,
    notices,
    post,
    started,
    until,
)


async def test_events_come_as_notices_do_and_go_on_where_they_ended(receiver: Receiver, publisher: Publisher) -> None:
    async with client(receiver.page) as http, http.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        assert await anext(lines) == ": hello"
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        async with asyncio.timeout(DEADLINE):
            first = await _event(lines)
    for _ in range(2):
        assert (await post(receiver.http, publisher.signed())).status_code == 200
    resumed = {"last-event-id": str(first["number"])}
    async with client(receiver.page) as http, http.stream("GET", "/events", headers=resumed) as stream:
        lines = stream.aiter_lines()
        async with asyncio.timeout(DEADLINE):
            numbers = [(await _event(lines))["number"] for _ in range(2)]
    assert numbers == sorted(each["number"] for each in await notices(receiver))[1:]


async def test_at_the_end_events_end_in_order(settings: ReceiverSettings) -> None:
    async with contextlib.AsyncExitStack() as reading:
        async with started(settings) as receiver:
            http = await reading.enter_async_context(client(receiver.page))
            stream = await reading.enter_async_context(http.stream("GET", "/events"))
            lines = stream.aiter_lines()
            assert await anext(lines) == ": hello"
        # What was cut off would be an error of the protocol (RFC 9112, section 8).
        assert [line async for line in lines if line] == []


async def test_a_new_flood_is_told_to_webhooks_once_signed_and_again_where_it_failed(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    came: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    refusals = 2

    async def hook(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal refusals
        body = await request.read()
        if refusals:
            refusals -= 1
            raise web.HTTPServiceUnavailable
        await came.put((request.headers[SIGNATURE], body))
        return web.Response()

    runner = web.ServerRunner(web.Server(hook))
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, bound).start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
    settings = laboratory(tmp_path, trusted, publisher, webhooks=(url,), webhook_secret=secret)
    try:
        for _ in range(2):
            async with started(settings, backoff=(0.01, 0.01, 0.01)) as receiver:
                for _ in range(3):
                    assert (await post(receiver.http, publisher.signed())).status_code == 200
                if came.empty():
                    await until(lambda: metric(receiver, "webhooks", "told"))
                    assert await metric(receiver, "webhooks", "tried-again") == 2
        assert came.qsize() == 1, "one flood, whatever comes of it, over a restart"
        signature, body = came.get_nowait()
        at, code = (part.partition("=")[2] for part in signature.split(","))
        assert code == hmac.digest(b"0123456789abcdef", at.encode() + b"." + body, "sha256").hex()
        told = json.loads(body)
        assert (told["event"], told["target"], told["reporters"][0]["domain"]) == (
            "flood",
            "203.0.113.9",
            publisher.domain,
        )
    finally:
        await runner.cleanup()


async def test_health_is_told_and_what_came_is_counted(receiver: Receiver, publisher: Publisher) -> None:
    assert (await post(receiver.http, publisher.signed())).status_code == 200
    async with client(receiver.page) as http:
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        await until(lambda: floods(http))
        text = (await http.get("/metrics")).text
    assert 'overflowd_receiver_notices_total{outcome="taken"} 1.0' in text
    assert "overflowd_receiver_floods 1.0" in text


async def _event(lines: AsyncIterator[str]) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: "):
            found: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return found
    raise AssertionError("the stream has ended")
