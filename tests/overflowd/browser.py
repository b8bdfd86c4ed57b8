"""A real browser without a window: Chromium, by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.overflowd.receiving import DEADLINE, until

# Without a sandbox of its own: root's, which tests are, can't be.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Page:
    """`said`: what its console and its loader complained of."""

    def __init__(self, connection: ClientConnection) -> None:
        self.said: list[str] = []
        self._connection = connection
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        async for raw in self._connection:
            message = json.loads(raw)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] in {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}:
                self.said.append(json.dumps(message["params"]))

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(DEADLINE):
            message = await answer
        assert "error" not in message, message
        found: dict[str, Any] = message["result"]
        return found

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.do(f"{domain}.enable")
        await self.do("Page.navigate", url=url)
        await until(lambda: self.evaluate("document.readyState === 'complete' && location.href !== 'about:blank'"))

    async def evaluate(self, expression: str) -> Any:
        found = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def size(self, width: int, height: int) -> None:
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def screenshot(self) -> bytes:
        """PNG."""
        return base64.b64decode((await self.do("Page.captureScreenshot", format="png"))["data"])

    async def without_javascript(self) -> None:
        """From the next page on."""
        await self.do("Emulation.setScriptExecutionDisabled", value=True)


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """With one empty page."""
    program = shutil.which("chromium")
    assert program is not None, "apt-get install chromium"
    folder = Path(tempfile.mkdtemp(prefix="overflowd-chromium-"))
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told = folder / "DevToolsActivePort"

        async def port() -> str:
            assert process.returncode is None, "it has ended"
            return told.read_text().partition("\n")[0] if told.exists() else ""

        async with _page(await until(port)) as page:
            yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _page(port: str) -> AsyncIterator[Page]:
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:

        async def target() -> str:
            found = (await http.get(f"http://127.0.0.1:{port}/json/list")).json()
            return next((each["webSocketDebuggerUrl"] for each in found if each["type"] == "page"), "")

        url = await until(target)
    async with connect(url, max_size=None, proxy=None) as connection:
        page = Page(connection)
        listening = asyncio.create_task(page.listen())
        try:
            yield page
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
