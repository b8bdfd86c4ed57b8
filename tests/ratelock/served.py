"""A whole service for a test: SQLite in a folder, a real server on a loopback port or a Unix socket, its log kept."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx

from jfe_cni import structured_log
from jfe_cni.ratelock import AsyncClient
from jfe_cni.ratelock.assembly import Assembled, opened
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.server import serving
from jfe_cni.ratelock.settings import Settings
from jfe_cni.ratelock.store import Operation

OWNER = Caller("owner", "owner", None, ("*",))
ALL: frozenset[Operation] = frozenset(get_args(Operation))
# The least that Argon2id takes: what it costs is not what is tested.
CHEAP = {"password_memory": 32, "password_iterations": 1, "password_lanes": 1}


@dataclass(frozen=True)
class Served:
    url: str
    owner: str
    caller: str
    assembled: Assembled
    log: io.StringIO

    def http(self, token: str | None = None, **options: Any) -> httpx.AsyncClient:
        """Bare HTTP, for what a client of ours would not send."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        if self.url.startswith("unix:"):
            options["transport"] = httpx.AsyncHTTPTransport(uds=self.url.removeprefix("unix:"))
            return httpx.AsyncClient(base_url="http://ratelock", headers=headers, **options)
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, **options)

    def as_owner(self) -> AsyncClient:
        return AsyncClient(self.url, token=self.owner)

    def as_caller(self) -> AsyncClient:
        return AsyncClient(self.url, token=self.caller)


@contextlib.asynccontextmanager
async def served(folder: Path, **given: Any) -> AsyncIterator[Served]:
    wanted = {
        "store": f"sqlite:///{folder / 'store.db'}",
        "key": f"file:{folder / 'key'}",
        "listen": f"unix:{folder / 'ratelock.sock'}",
        **CHEAP,
        **given,
    }
    settings = Settings(**wanted)
    log = io.StringIO()
    structured_log.configure("ratelock", settings.log_format, log)
    async with opened(settings) as assembled:
        owner = await assembled.service.bootstrap()
        assert owner is not None
        caller = await assembled.service.make_token(OWNER, "shop", "caller", ALL, ("*",), 3600)
        async with serving(assembled.service, settings, assembled.ready) as url:
            yield Served(url, owner, caller, assembled, log)
