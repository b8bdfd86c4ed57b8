"""Takes copies out of the outbox and has them delivered, each by one way after another, and accounts for each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.budgets import Budgets
from jfe_cni.overflowd.delivery.counts import Counts
from jfe_cni.overflowd.delivery.decisions import Tried, Try, is_confirmed, is_unreachable, next_step, ways_for, withheld
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.delivery.optouts import LeavingAlone
from jfe_cni.overflowd.delivery.outbox import LEASE, Claimed, Outbox
from jfe_cni.overflowd.delivery.outcomes import Broken, Outcome, State, Told, Way
from jfe_cni.overflowd.delivery.ways import Ways, identity
from jfe_cni.overflowd.notices.keys import KeyRing
from jfe_cni.overflowd.notices.notice import Notice, decode
from jfe_cni.overflowd.notices.signing import sign
from jfe_cni.structured_log import fields

UPKEEP_SECONDS = LEASE / 3e6
# Between two looks for what another collector has put, or nobody sent.
_POLL_SECONDS = 1.0
# After the database or the budgets could not be asked.
_PAUSE_SECONDS = 5.0
_BUDGETS_SECONDS = 3_600.0

PATIENCE = (1.0, 2.0, 4.0)
"""Seconds between tries to write down what has become of a copy, before it is kept and its slot is free."""

LAST_WRITES_SECONDS = 2.0
"""At the end, for what is not written down yet."""

# One in so many slots is for addresses that have answered: those that are dead hold a slot until the last way is given
# up, and whoever forges sources can name any number of them.
_FOR_ANSWERED = 4
_MOST_ANSWERED = 1_000
_ANSWERS = frozenset({Told.TAKEN, Told.REFUSED, Told.NOT_NOW})

_INTERRUPTED = Outcome(State.UNKNOWN, Broken.INTERRUPTED)


class Courier:
    """`concurrency`: copies at once. `stop_seconds`: how long those that are under way may take when it ends;
    `LAST_WRITES_SECONDS` later it has ended, whatever the database does. `patience`: seconds after each try to write
    down what has become of a copy."""

    def __init__(
        self,
        outbox: Outbox,
        left_alone: LeavingAlone,
        budgets: Budgets,
        ways: Ways,
        policy: Policy,
        ring: KeyRing,
        counts: Counts,
        *,
        concurrency: int,
        stop_seconds: float,
        patience: Sequence[float] = PATIENCE,
    ) -> None:
        self._outbox = outbox
        self._left_alone = left_alone
        self._budgets = budgets
        self._ways = ways
        self._policy = policy
        self._key = ring.signing
        self._concurrency = concurrency
        self._stop_seconds = stop_seconds
        self._patience = patience
        # What the database would not take. Nothing more is claimed until it does: no more than two writes for each copy
        # that was under way, and in their order, so that who asked to be left alone is.
        self._unwritten: deque[Callable[[], Awaitable[None]]] = deque()
        self._answered: OrderedDict[Address, None] = OrderedDict()
        self._newest = True
        self._stop_by: float | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._paused_until = 0.0
        self._log = logging.getLogger(__name__)
        self.counts = counts

    def sign_by(self, ring: KeyRing) -> None:
        """From now on: the former key was rotated. What is under way is signed by it still."""
        self._key = ring.signing
        self._outbox.hold(ring)

    async def run(self) -> None:
        """Until it is cancelled: then what is under way is finished or accounted for. Raises JfeError: what waiting
        doesn't mend."""
        self._failure = self._stop_by = None
        await self._outbox.resume()
        upkeep = [
            asyncio.create_task(self._regularly(UPKEEP_SECONDS, self._keep_up)),
            asyncio.create_task(self._regularly(_BUDGETS_SECONDS, self._budgets.keep_up)),
        ]
        try:
            while self._failure is None:
                await self._turn()
        finally:
            await self._finish()
            for task in upkeep:
                task.cancel()
            await asyncio.gather(*upkeep, return_exceptions=True)
        raise self._failure

    async def _turn(self) -> None:
        self._outbox.arrived.clear()
        if asyncio.get_running_loop().time() >= self._paused_until and await self._write_kept():
            claimed = await self._claim_some()
            for each in claimed:
                task = asyncio.create_task(self._deliver(each))
                self._under_way.add(task)
                task.add_done_callback(self._ended)
            self.counts.sending.set(len(self._under_way))
            if claimed:
                return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._outbox.arrived.wait()

    async def _claim_some(self) -> Sequence[Claimed]:
        """The oldest and the newest by turns: under a flood the oldest wait for hours, and the newest are the news."""
        room = self._concurrency - len(self._under_way)
        for_all = room - self._concurrency // _FOR_ANSWERED
        if for_all > 0:
            self._newest = not self._newest
            return await self._claim(partial(self._outbox.claim, for_all, newest=self._newest))
        if room and self._answered:
            return await self._claim(partial(self._outbox.claim, room, newest=True, among=tuple(self._answered)))
        return ()

    async def _claim(self, claim: Callable[[], Awaitable[Sequence[Claimed]]]) -> Sequence[Claimed]:
        """Cancelled, it gives back what it was given meanwhile."""
        claiming = asyncio.ensure_future(claim())
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(JfeError, TimeoutError):
                async with asyncio.timeout(LAST_WRITES_SECONDS):
                    await asyncio.gather(*(self._outbox.give_back(each) for each in await claiming))
            raise
        except JfeError as error:
            self._pause(error)
            return ()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self.counts.sending.set(len(self._under_way))
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
        self._outbox.arrived.set()

    async def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        finish_by = loop.time() + self._stop_seconds
        self._stop_by = finish_by + LAST_WRITES_SECONDS
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._stop_seconds)
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._stop_by):
                await self._write_kept()
        if self._unwritten:
            self._log.error("outcomes not written", extra=fields(waiting=len(self._unwritten)))

    async def _deliver(self, claimed: Claimed) -> None:
        tried: list[Tried] = []
        try:
            outcome = await self._outcome(claimed, tried)
        except asyncio.CancelledError:
            await self._leave(claimed, _INTERRUPTED if tried else None)
            raise
        except JfeError as error:
            await self._leave(claimed, _INTERRUPTED if tried else None)
            if not error.temporary:
                raise
            self._pause(error)
            return
        await self._leave(claimed, outcome)

    async def _outcome(self, claimed: Claimed, tried: list[Tried]) -> Outcome:
        """`tried`: grows before a way is tried."""
        address, notice = claimed.address, decode(claimed.notice)
        if not isinstance(notice, Notice):
            return Outcome(State.FAILED, notice)
        cause = await self._left_alone.cause(address)
        ways = ways_for(notice, self._ways.order)
        reason = withheld(notice, address, claimed.age, self._policy, cause, ways)
        if reason is not None:
            return reason
        signed = sign(notice, self._key).encode()
        cost = self._ways.cost(address, signed)
        step = next_step(notice, ways, (), cost, cause)
        if isinstance(step, Outcome):
            return step
        if (spared := await self._budgets.admit(identity(notice), address)) is not None:
            return Outcome(State.WITHHELD, spared)
        while isinstance(step, Try):
            # Before: whoever is interrupted from here on does not know what has left.
            tried.append(Tried(step.way, Told.NO_ANSWER))
            answer = await self._ways.tell(step.way, address, notice, signed)
            tried[-1] = Tried(step.way, answer.told)
            self.counts.tried(step.way, answer.told, answer.octets)
            if answer.told in _ANSWERS and step.way is not Way.MAIL:
                self._remember(address)
                await self._patiently(partial(self._left_alone.is_there, address))
            if answer.opt_out is not None:
                await self._patiently(partial(self._left_alone.ask, address, answer.opt_out))
            step = next_step(notice, ways, tried, cost, cause)
        if is_unreachable(tried):
            await self._patiently(partial(self._left_alone.give_up, address, confirmed=is_confirmed(tried)))
        return step

    async def _leave(self, claimed: Claimed, outcome: Outcome | None) -> None:
        """`outcome`: None, nothing has left and it waits again."""
        if outcome is None:
            await self._patiently(partial(self._outbox.give_back, claimed))
        else:
            await self._patiently(partial(self._outbox.end, claimed, outcome))

    async def _patiently(self, write: Callable[[], Awaitable[None]]) -> None:
        """Where the database does not take it, it is kept until it does; the row is held as long."""
        try:
            for pause in self._patience:
                try:
                    async with asyncio.timeout_at(self._stop_by):
                        if await self._is_written(write):
                            return
                        await asyncio.sleep(pause)
                except TimeoutError:
                    break
        except asyncio.CancelledError:
            self._unwritten.append(write)
            raise
        self._unwritten.append(write)

    async def _write_kept(self) -> bool:
        """Whether nothing is left that is not written down."""
        while self._unwritten:
            if not await self._is_written(self._unwritten[0]):
                return False
            self._unwritten.popleft()
        return True

    async def _is_written(self, write: Callable[[], Awaitable[None]]) -> bool:
        try:
            await write()
        except JfeError as error:
            if not error.temporary:
                raise
            self._pause(error)
            return False
        return True

    def _remember(self, address: Address) -> None:
        self._answered[address] = None
        self._answered.move_to_end(address)
        if len(self._answered) > _MOST_ANSWERED:
            self._answered.popitem(last=False)

    def _pause(self, error: JfeError) -> None:
        """Nothing more is taken for a while."""
        self._paused_until = asyncio.get_running_loop().time() + _PAUSE_SECONDS
        self._log.warning("delivery pauses", extra=fields(reason=error.message))

    async def _keep_up(self) -> None:
        await self._outbox.keep_up()
        await self._left_alone.keep_up()

    async def _regularly(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except JfeError as error:
                if not error.temporary:
                    self._failure = error
                    return
                self._pause(error)
            await asyncio.sleep(seconds)
