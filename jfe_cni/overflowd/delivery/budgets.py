"""How much is sent, whatever the flows do: to one address, to one network, to one abuse desk, and in all. Counted by
ratelock, exactly and over restarts, before anything is sent.

Embedded, on ratelock's library, several collectors may share a store. What all share is counted by itself: before a
name gets a budget, so that flows that somebody forges make no more of them than are sent; and after the name's own,
where it has one, so that a name that has spent it spends nothing of all.

Held by the service, each name is an attempt of its own, and its owner sets the budgets: three in ten seconds for every
name that has none of its own, and for the collector what its owner gives to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Protocol
from weakref import WeakValueDictionary

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.outcomes import Spared
from jfe_cni.overflowd.notices.optout import WIDEST
from jfe_cni.ratelock.budgets import Budget, Limit, Meter, Microseconds
from jfe_cni.ratelock.client import AsyncClient
from jfe_cni.ratelock.faults import BudgetSpent
from jfe_cni.ratelock.store import Admitted, Attempt, OwnerAct, Spent, Store, StoredBudget

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LIMIT = re.compile(r"([0-9]{1,9})/([0-9]{1,6})([smhd])")
_ALL = Meter("all")
_HOUR: Microseconds = 3_600 * 1_000_000
# Names whose budget is known to be set; one that is forgotten is looked up again.
_MOST_KNOWN = 100_000
# Budgets that are taken away in one go: others wait meanwhile.
_REMOVED_TOGETHER = 100
# What a name's secret is asked for, where it has one: nobody has.
_FIELD = "sent"


class Budgets(Protocol):
    """`notice`: of this copy alone; asked for again, it is counted once. Raise JfeError: they can't be asked."""

    async def admit(self, notice: str, address: Address) -> Spared | None:
        """None: it is counted, and may be sent."""
        ...

    async def admit_contact(self, notice: str, contact: str) -> Spared | None: ...

    async def keep_up(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """The budgets of each address, each network (`optout.WIDEST`), each abuse desk, and in all."""

    address: Budget
    prefix: Budget
    contact: Budget
    total: Budget


def read_budget(text: str) -> Budget:
    """`3/10s,1000/1d`: limits that hold at once. Raises RequestError."""
    limits = []
    for each in text.split(","):
        found = _LIMIT.fullmatch(each.strip())
        if found is None:
            raise RequestError(f"{each.strip()!r} is no limit", remedy="write 3/10s, or 3/10s,1000/1d")
        limits.append(Limit(int(found[1]), int(found[2]) * _SECONDS[found[3]] * 1_000_000))
    return Budget(tuple(limits))


def _names(address: Address) -> tuple[tuple[str, Spared], tuple[str, Spared]]:
    prefix = ip_network((address, WIDEST[address.version]), strict=False)
    return (f"address/{address}", Spared.ADDRESS_BUDGET), (f"prefix/{prefix}", Spared.PREFIX_BUDGET)


class EmbeddedBudgets:
    """`store`: ratelock's, closed with this. A name gets its budget when it is first asked for, and loses it when
    nobody has asked for longer than any of its windows. `clock`: seconds."""

    def __init__(
        self, store: Store, wanted: Wanted, collector: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._collector = collector
        budgets = (wanted.address, wanted.prefix, wanted.contact, wanted.total)
        longest = max(limit.window for budget in budgets for limit in budget.limits)
        # A removal waits for as long, and another collector that uses the name says so twice meanwhile: what is removed
        # was used by nobody for the longest window.
        self._delay = 2 * longest + _HOUR
        self._wanted = {
            "address": Budget(wanted.address.limits, self._delay),
            "prefix": Budget(wanted.prefix.limits, self._delay),
            "contact": Budget(wanted.contact.limits, self._delay),
        }
        self._total = wanted.total
        self._known: OrderedDict[Meter, float] = OrderedDict()
        self._leaving: dict[Meter, float] = {}
        self._making: WeakValueDictionary[Meter, asyncio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        """Raises StoreError."""
        await self._set(_ALL, self._total)

    async def admit(self, notice: str, address: Address) -> Spared | None:
        (of_address, _), (of_prefix, _) = _names(address)
        names = (Meter("secret", of_prefix), Meter("secret", of_address))
        if all(map(self._is_known, names)):
            return await self._admit_in_order(notice, names)
        # Those that come at once to what is new wait for the first.
        async with self._making.setdefault(names[0], asyncio.Lock()):
            return await self._admit_in_order(notice, names)

    async def _admit_in_order(self, notice: str, names: tuple[Meter, ...]) -> Spared | None:
        known = tuple(meter for meter in names if self._is_known(meter))
        new = tuple(meter for meter in names if meter not in known)
        for meters in (known, (_ALL,), new):
            if meters and (spared := await self._admit(notice, meters)) is not None:
                return spared
        return None

    async def admit_contact(self, notice: str, contact: str) -> Spared | None:
        return await self._admit(notice, (Meter("secret", f"contact/{contact}"),))

    async def keep_up(self) -> None:
        """Removes the budgets of names that are out of use. Raises StoreError."""
        now = self._clock()
        # The delay has passed: now they leave no trace.
        done = [meter for meter, at in self._leaving.items() if at <= now]
        await self._remove_all([meter for meter in done if meter not in self._known])
        for meter in done:
            del self._leaving[meter]
        idle = [each.meter for each in await self._store.budgets() if self._is_idle(each, now)]
        await self._remove_all(idle)
        self._leaving.update(dict.fromkeys(idle, now + self._delay / 1e6))

    async def close(self) -> None:
        await self._store.close()

    def _is_idle(self, stored: StoredBudget, now: float) -> bool:
        kind = stored.meter.name.partition("/")[0]
        if stored.meter.kind != "secret" or kind not in self._wanted or stored.pending_from is not None:
            return False
        return self._known.get(stored.meter, 0.0) <= now

    async def _admit(self, notice: str, meters: tuple[Meter, ...]) -> Spared | None:
        """At one stroke, or none of them."""
        for meter in meters:
            if meter.kind == "secret":
                await self._prepare(meter)
        key, digest = _key(notice, " ".join(f"{meter.kind}:{meter.name}" for meter in meters))
        attempt = Attempt(self._collector, "sign", meters[-1].name, meters, idempotency_key=key, request_digest=digest)
        verdict = await self._store.admit(attempt)
        match verdict:
            case Admitted():
                return None
            case Spent(Meter("all")):
                return Spared.TOTAL_BUDGET
            case Spent(Meter(_, spent)):
                return Spared(f"{spent.partition('/')[0]}-budget")
        raise AssertionError("a key stands for one name of one notice")

    def _is_known(self, meter: Meter) -> bool:
        return self._known.get(meter, 0.0) > self._clock()

    async def _prepare(self, meter: Meter) -> None:
        if self._is_known(meter):
            return
        await self._set(meter, self._wanted[meter.name.partition("/")[0]])
        self._known[meter] = self._clock() + self._delay / 2e6
        self._known.move_to_end(meter)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    async def _set(self, meter: Meter, wanted: Budget) -> None:
        stored = await self._store.budget(meter)
        if stored != StoredBudget(meter, wanted):
            act = OwnerAct(self._collector, "budget.set", f"{meter.kind}:{meter.name}")
            await self._store.set_budget(meter, wanted, act)

    async def _remove_all(self, meters: Sequence[Meter]) -> None:
        for start in range(0, len(meters), _REMOVED_TOGETHER):
            await asyncio.gather(*map(self._remove, meters[start : start + _REMOVED_TOGETHER]))

    async def _remove(self, meter: Meter) -> None:
        act = OwnerAct(self._collector, "budget.remove", f"{meter.kind}:{meter.name}")
        await self._store.set_budget(meter, None, act)


class HeldBudgets:
    """`client`: of a ratelock whose token may release `overflowd/*`, closed with this. Its owner sets the budget of the
    token's identity (two attempts for each notice), and of names that are to have another than three in ten seconds."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def admit(self, notice: str, address: Address) -> Spared | None:
        for name, spared in _names(address):
            if (spent := await self._ask(notice, name, spared)) is not None:
                return spent
        return None

    async def admit_contact(self, notice: str, contact: str) -> Spared | None:
        # Of a contact's address anybody may have written any letter, and names have few.
        name = hashlib.sha256(contact.encode()).hexdigest()
        return await self._ask(notice, f"contact/{name}", Spared.CONTACT_BUDGET)

    async def keep_up(self) -> None:
        """The service does."""

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, notice: str, name: str, spared: Spared) -> Spared | None:
        try:
            await self._client.release(f"overflowd/{name}", [_FIELD], idempotency_key=_key(notice, name)[0])
        except BudgetSpent as error:
            return spared if error.meter.kind == "secret" else Spared.TOTAL_BUDGET
        return None


def _key(notice: str, name: str) -> tuple[str, bytes]:
    """An idempotency key, of letters that one may have, and the request that it stands for."""
    digest = hashlib.sha256(f"{notice}\0{name}".encode()).digest()
    return digest.hex(), digest
