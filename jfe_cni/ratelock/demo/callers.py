"""Callers who ask for one record as often as they can, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Sequence

from jfe_cni.errors import StoreError
from jfe_cni.ratelock.client import AsyncClient
from jfe_cni.ratelock.demo.findings import Answer
from jfe_cni.ratelock.demo.replica import Replica
from jfe_cni.ratelock.exchange import ServiceUnreachable
from jfe_cni.ratelock.faults import BudgetSpent

# Hammering, and room for the replicas, which share this host with the callers.
_PAUSE_SECONDS = 0.02


class Callers:
    """`number` of them, each with a replica that it likes best, for whom the other will do."""

    def __init__(self, replicas: Sequence[Replica], token: str, secret: str, number: int) -> None:
        self._replicas = replicas
        self._token = token
        self._secret = secret
        self._number = number
        self.answers: list[Answer] = []

    async def ask_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._go_on(number, until) for number in range(self._number)))

    async def _go_on(self, number: int, until: float) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients: dict[str, AsyncClient] = {}
            best = number
            key = str(uuid.uuid4())
            while time.monotonic() < until:
                replica = self._replicas[best % len(self._replicas)]
                url = replica.url
                if url is None:
                    best += 1
                elif (answer := await self._ask(await _client(clients, stack, url, self._token), replica, key)) is None:
                    # Nobody knows whether it was counted: the same attempt, asked of the other.
                    best += 1
                    continue
                else:
                    self.answers.append(answer)
                key = str(uuid.uuid4())
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, client: AsyncClient, replica: Replica, key: str) -> Answer | None:
        asked = time.monotonic()
        try:
            await client.release(self._secret, ["number"], idempotency_key=key)
        except BudgetSpent:
            return Answer(asked, time.monotonic(), replica.name, released=False)
        except (ServiceUnreachable, StoreError):
            return None
        return Answer(asked, time.monotonic(), replica.name, released=True)


async def _client(
    clients: dict[str, AsyncClient], stack: contextlib.AsyncExitStack, url: str, token: str
) -> AsyncClient:
    if url not in clients:
        clients[url] = await stack.enter_async_context(AsyncClient(url, token=token))
    return clients[url]
