"""Folders as a runtime has them, in a test's own place, and `jfe cni` let loose on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from jfe_cni.cni import chain, network_folder
from tests.e2e.command import jfe
from tests.stage import Process

BRIDGE = {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def network(label: str = "net", *plugins: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": label, "plugins": list(plugins) or [BRIDGE, PORTMAP], **more}


class Installation:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "net.d"
        self.bin = folder / "bin"
        self.cache = folder / "cache"
        self.socket = folder / "agent.sock"
        self.plugin = self._program("jfe-cni-plugin")
        self.retired = self._program("jfe-cni-retired")
        self.config.mkdir()

    @property
    def program(self) -> Path:
        return self.bin / "jfe"

    def path(self, name: str) -> Path:
        return self.config / name

    def write(self, name: str, content: object) -> Path:
        path = self.path(name)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def read(self, name: str) -> dict[str, Any]:
        found = json.loads(self.path(name).read_text())
        assert isinstance(found, dict)
        return found

    def types(self, name: str) -> list[str]:
        """Of the list's chain, in order."""
        return [plugin["type"] for plugin in self.read(name)["plugins"]]

    def files(self) -> list[str]:
        """All that is in the folder of configurations, leftovers too."""
        return sorted(str(path.relative_to(self.config)) for path in self.config.rglob("*") if not path.is_dir())

    def contents(self) -> dict[str, tuple[int, bytes]]:
        """Inode and bytes of each: a file that is written anew has another inode."""
        return {name: (self.path(name).stat().st_ino, self.path(name).read_bytes()) for name in self.files()}

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self._run(*self.install_words(), *options)

    def installed(self, *options: str) -> dict[str, Any]:
        """What `--json` says of an installation that succeeds."""
        return self._said(self.install("--json", *options))

    def uninstall(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self._run(
            *("cni", "uninstall", "--config-dir", str(self.config), "--bin-dir", str(self.bin)),
            *("--cache-dir", str(self.cache), "--retired", str(self.retired), *options),
        )

    def uninstalled(self, *options: str) -> dict[str, Any]:
        return self._said(self.uninstall("--json", *options))

    @contextlib.contextmanager
    def watching(self, *options: str) -> Iterator[Process]:
        """`jfe cni install --watch`, ended by SIGTERM."""
        process = Process(jfe(*self.install_words(), "--watch", *options), self.folder / "watch.log")
        try:
            yield process
            process.check_alive("it watched")
        finally:
            status = process.stop()
        assert status == 0, process.output()

    def install_words(self) -> list[str]:
        return [
            *("cni", "install", "--config-dir", str(self.config), "--bin-dir", str(self.bin)),
            *("--socket", str(self.socket), "--plugin", str(self.plugin)),
        ]

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        found = subprocess.run(jfe(*words), capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in found.stderr, found.stderr
        return found

    def _said(self, run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        assert run.returncode == 0, run.stderr
        found = json.loads(run.stdout)
        assert isinstance(found, dict)
        return found

    def _program(self, name: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\necho {name}\n")
        path.chmod(0o755)
        return path


class Calls:
    """Answers on the agent's socket which calls have come, in a thread of its own. They come from a runtime that calls
    each plugin of each network now and then, and honours drop-ins or not."""

    def __init__(self, made: Installation, *, honours_drop_ins: bool) -> None:
        self.honours_drop_ins = honours_drop_ins
        self.asked = 0
        self._made = made
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Calls:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_get("/v1/cni/calls", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._made.socket)).start()

    async def _answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        drop_ins = [path for path in network_folder.drop_ins(self._made.config) if path.name == network_folder.DROP_IN]
        lists = [chain.parse(path.read_bytes()) for path in self._made.config.glob("*.conflist")]
        inline = [document["name"] for document in lists if document is not None and chain.has_own(document)]
        named = [path.parent.name for path in drop_ins] if self.honours_drop_ins else []
        return web.json_response({"drop_in": named, "inline": inline})
