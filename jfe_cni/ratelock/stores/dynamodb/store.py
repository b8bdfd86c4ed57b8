"""The store in a table of DynamoDB, which replicas and functions share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jfe_cni.databases.commits import GroupCommit
from jfe_cni.errors import JfeError
from jfe_cni.ratelock.budget_changes import settled
from jfe_cni.ratelock.budgets import Budget, Meter, Microseconds
from jfe_cni.ratelock.store import (
    Attempt,
    LogEntry,
    OwnerAct,
    Spent,
    StoredBudget,
    StoredSecret,
    StoredToken,
    Verdict,
)
from jfe_cni.ratelock.stores.clock import Clock, MachineClock, ServerClock
from jfe_cni.ratelock.stores.dynamodb import changes, items, upkeep
from jfe_cni.ratelock.stores.dynamodb.attempts import admit
from jfe_cni.ratelock.stores.dynamodb.histories import Histories
from jfe_cni.ratelock.stores.dynamodb.ledger import Ledger, Transaction
from jfe_cni.ratelock.stores.dynamodb.table import Table
from jfe_cni.ratelock.stores.refusals import TOGETHER
from jfe_cni.ratelock.stores.secrets import Secrets

Answer = TypeVar("Answer")

READERS = 8
_PAGE = 200
# What an attempt may be held for too long, microseconds; and how many seconds of the start learning it may take.
_SPREAD: Microseconds = 20_000
_PATIENCE = 1.5
# Seconds between two looks for refusals that a replica counted and did not live to log.
_UPKEEP = 60.0


class DynamoStore:
    """See `store.Store`. For one event loop; boto3 runs in threads of its own."""

    def __init__(self, table: Table, clock: Clock | None = None) -> None:
        """`clock`: None, the server's."""
        self._table = table
        self._learns = clock is None
        self._ledger = Ledger(table, clock or ServerClock(), spreads=not isinstance(clock, MachineClock))
        self._histories = Histories()
        self._secrets = Secrets()
        self._commits = GroupCommit(self._admit)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ratelock-reads")
        self._upkeep: asyncio.Task[None] | None = None
        self._latest: Microseconds = 0
        # For the thread of commits alone: set there, and read between two transactions.
        self._superfluous: set[Meter] = set()
        self._refused = True

    async def start(self) -> None:
        """Learns the time, before anything else is asked. Raises StoreError."""
        if self._learns:
            await self._read(lambda: self._table.learn_time(_SPREAD, _PATIENCE))
        # A clock's new boot is taken note of, before anything else is asked.
        await self._alone(lambda _: None)
        self._upkeep = asyncio.create_task(self._keep_up())

    async def close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        await self._commits.close()
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._table.close)

    async def now(self) -> Microseconds:
        timing = await self._read(lambda: self._ledger.timing(self._ledger.head()))
        self._latest = max(self._latest, timing.moment.at)
        return self._latest

    async def ready(self) -> None:
        await self._alone(lambda transaction: transaction.advance())

    async def admit(self, attempt: Attempt) -> Verdict:
        return await self._commits.submit(attempt)

    def _admit(self, attempts: Sequence[Attempt]) -> Sequence[Verdict]:
        verdicts: list[Verdict] = []
        while len(verdicts) < len(attempts):
            left = attempts[len(verdicts) :]
            some = self._ledger.transact(
                lambda transaction: admit(transaction, left, self._histories, self._secrets)  # noqa: B023
            )
            self._histories.keep(self._ledger.version)
            self._secrets.keep(self._ledger.version)
            verdicts += some
        self._refused = self._refused or any(isinstance(verdict, Spent) for verdict in verdicts)
        self._superfluous |= self._histories.superfluous()
        return verdicts

    async def secret(self, name: str) -> StoredSecret | None:
        found = await self._read(lambda: self._table.get(items.secret_key(name)))
        return None if found is None else items.stored_secret(found)

    async def secrets(self) -> Sequence[StoredSecret]:
        found = await self._read(lambda: list(self._table.all("secret")))
        return [items.stored_secret(each) for each in found]

    async def put_secret(self, secret: StoredSecret, act: OwnerAct, *, expected_version: int | None) -> None:
        await self._alone(lambda transaction: changes.put_secret(transaction, secret, act, expected_version))

    async def reseal(self, name: str, sealed: bytes, *, expected_version: int, changed: int) -> bool:
        return await self._alone(
            lambda transaction: changes.reseal(transaction, name, sealed, expected_version, changed)
        )

    async def remove_secret(self, name: str, act: OwnerAct) -> bool:
        return await self._alone(lambda transaction: changes.remove_secret(transaction, name, act))

    async def budget(self, meter: Meter) -> StoredBudget | None:
        found = await self._read(lambda: self._table.get(items.budget_key(meter)))
        return None if found is None else settled(items.stored_budget(found), await self.now())

    async def budgets(self) -> Sequence[StoredBudget]:
        found, now = await self._read(lambda: list(self._table.all("budget"))), await self.now()
        kept = [settled(items.stored_budget(each), now) for each in found]
        return sorted((each for each in kept if each is not None), key=lambda each: each.meter)

    async def set_budget(self, meter: Meter, budget: Budget | None, act: OwnerAct) -> StoredBudget | None:
        return await self._alone(lambda transaction: changes.set_budget(transaction, meter, budget, act))

    async def token(self, digest: bytes) -> StoredToken | None:
        found = await self._read(lambda: self._table.get(items.token_key(digest)))
        return None if found is None else items.stored_token(found)

    async def put_token(self, token: StoredToken, act: OwnerAct) -> None:
        await self._alone(lambda transaction: changes.put_token(transaction, token, act))

    async def remove_token(self, digest: bytes, act: OwnerAct) -> bool:
        return await self._alone(lambda transaction: changes.remove_token(transaction, digest, act))

    async def append(self, act: OwnerAct) -> LogEntry:
        return await self._alone(lambda transaction: transaction.append(act))

    async def entries(self, first: int = 1) -> AsyncIterator[LogEntry]:
        """A page at a time, up to the last that there is when it is begun; an entry is never changed."""
        last = (await self._read(self._ledger.head)).number
        while first <= last:
            start = first
            page = await self._read(
                lambda: list(self._table.between("log", items.padded(start), items.padded(last), _PAGE))  # noqa: B023
            )
            for found in page:
                yield items.log_entry(found)
            if not page:
                return
            first = items.log_entry(page[-1]).number + 1

    async def _alone(self, work: Callable[[Transaction], Answer]) -> Answer:
        return await self._commits.alone(lambda: self._ledger.transact(work))

    async def _read(self, read: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # A store that is away, or refuses, is told to those who ask it for something; here it is asked again.
            with contextlib.suppress(JfeError):
                if self._refused or loop.time() >= due:
                    await self._commits.alone(self._log_counted)
                    due = loop.time() + _UPKEEP
                if self._superfluous:
                    await self._commits.alone(self._prune)
            await asyncio.sleep(TOGETHER / 1e6)

    def _log_counted(self) -> None:
        self._refused = self._ledger.transact(upkeep.log_counted)

    def _prune(self) -> None:
        meter = self._superfluous.pop()
        last = self._ledger.transact(lambda transaction: upkeep.prune(transaction, self._histories, meter))
        if last is not None:
            upkeep.delete_pruned(self._table, meter, last)
