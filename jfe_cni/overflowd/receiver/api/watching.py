"""The web page, its API and events, metrics and health. Not for everybody: it says who is attacked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.api import problems
from jfe_cni.overflowd.receiver.api.application import asked_with, new_application
from jfe_cni.overflowd.receiver.api.boundary import NOSNIFF, Boundary
from jfe_cni.overflowd.receiver.api.problems import response
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.following import Following
from jfe_cni.overflowd.receiver.kept import Kept
from jfe_cni.overflowd.receiver.observed import CONTENT_TYPE, Metrics
from jfe_cni.overflowd.receiver.page.page import Shown, content, page
from jfe_cni.overflowd.receiver.store import Store
from jfe_cni.overflowd.receiver.views import change_view, flood_view, notice_view

_STATIC = Path(__file__).parents[1] / "page/static"
_GUARDED = (
    *NOSNIFF,
    # No script but ours, and nobody else's frame: what reporters write is text (CSP level 3).
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
)
_PAGE = 1_000
# Seconds after which a comment tells that the connection lives (HTML Standard, 9.2.7: about every 15).
_ALIVE = 15.0
_NO_BODY = 1_024


def watching_application(
    store: Store,
    following: Following,
    metrics: Metrics,
    clock: Callable[[], Microseconds],
    stopping: asyncio.Event,
    complaints: Complaints,
    names: frozenset[str] = frozenset(),
    anything: bool = False,
) -> ASGIApp:
    """`stopping`: set, events end. `names`: see `Boundary`. `anything`: see `Shown`."""
    app = new_application(complaints)
    app.mount("/static", StaticFiles(directory=_STATIC))

    async def shown() -> Shown:
        now = clock()
        return Shown(now, list(following.floods), await store.changes(), following.timeline.until(now), anything)

    @app.get("/")
    async def whole() -> Response:
        return HTMLResponse(page(await shown()))

    @app.get("/content")
    async def part() -> Response:
        return HTMLResponse(content(await shown()))

    @app.get("/api/floods", dependencies=[asked_with()])
    async def floods() -> dict[str, Any]:
        changes = [change_view(each) for each in await store.changes()]
        return {"floods": [flood_view(each) for each in following.floods], "changed-keys": changes}

    @app.get("/api/notices", dependencies=[asked_with("after", "most")])
    async def notices(
        after: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
        most: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
    ) -> dict[str, Any]:
        """The newest; or, `after` a number, those that came next, in order."""
        found = await store.newest(most) if after is None else await store.since(after, most)
        return {"notices": [notice_view(each) for each in found]}

    @app.get("/events", dependencies=[asked_with("after")])
    async def events(request: Request, after: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None) -> Response:
        """Server-sent events: `notice`, with its number as id."""
        last = request.headers.get("last-event-id", "")
        begin = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else after
        if begin is None:
            newest = await store.newest(1)
            begin = newest[0].number if newest else 0
        if len(following.readers) >= following.readers.most:
            return response(problems.BUSY)
        stream = _stream(store, following, begin, stopping)
        return StreamingResponse(stream, media_type="text/event-stream")

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        await store.ready()
        return PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def measured() -> Response:
        metrics.floods.set(len(following.floods))
        metrics.unreadable.set(store.unreadable)
        metrics.readers.set(len(following.readers))
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return Boundary(app, _NO_BODY, _GUARDED, names)


async def _stream(store: Store, following: Following, after: int, stopping: asyncio.Event) -> AsyncIterator[str]:
    with following.readers.reading() as news:
        if news is None:
            return
        # So that whoever asked knows that it is heard of from here on.
        yield ": hello\n\n"
        while not stopping.is_set():
            news.clear()
            while page := await store.since(after, 100):
                for kept in page:
                    yield _event(kept)
                after = page[-1].number
            try:
                async with asyncio.timeout(_ALIVE):
                    await news.wait()
            except TimeoutError:
                yield ": alive\n\n"


def _event(kept: Kept) -> str:
    # JSON has no line ends of its own (RFC 8259, section 7).
    return f"id: {kept.number}\nevent: notice\ndata: {json.dumps(notice_view(kept))}\n\n"
