"""Takes notices in: decides by `intake.py`, fetches what keys are missing, keeps what is taken, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from joserfc.jwk import OKPKey

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.notices import messages, optout
from jfe_cni.overflowd.notices.messages import Message, Sent
from jfe_cni.overflowd.notices.signing import Refused
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.challenges import Ledger
from jfe_cni.overflowd.receiver.freshness import Stale
from jfe_cni.overflowd.receiver.intake import Challenged, Decision, Intake, KeyNeeded, NotTaken, Origin, Taken, Untaken
from jfe_cni.overflowd.receiver.key_fetching import KeyFetcher, Unfetched
from jfe_cni.overflowd.receiver.limits import Buckets, Limit, Sources, prefix
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.pins import Pinning
from jfe_cni.overflowd.receiver.store import Store

MOST_WAITING = 256
"""Notices whose key is being fetched, or that are being kept, for each of both."""

INTRODUCTIONS = Limit(16, 86_400 * 1_000_000)
"""Of keys that were not known, by one network: or one that has many names would be all the reporters there are."""


@dataclass(frozen=True)
class Answered:
    """`message`: what is said to it, nothing perhaps."""

    decision: Decision
    message: Message | None


class Reception:
    """For one event loop. `spoofable`, `proven`: what those may send whose address is not proven, and those whose is:
    who floods in the name of others makes nobody deaf to what comes by TCP. `clock`: of notices; `monotonic`: of all
    that is so often in a time. `took`: is told of each notice that was kept. `opted_out`: by this key every reporter is
    asked to send no more."""

    def __init__(
        self,
        intake: Intake,
        believed: Believed,
        fetcher: KeyFetcher,
        store: Store,
        spoofable: Sources,
        proven: Sources,
        metrics: Metrics,
        clock: Callable[[], Microseconds],
        monotonic: Callable[[], Microseconds],
        took: Callable[[Taken], None],
        opted_out: OKPKey | None = None,
    ) -> None:
        self._intake = intake
        self._believed = believed
        self._fetcher = fetcher
        self._store = store
        self._spoofable, self._proven = spoofable, proven
        self._metrics = metrics
        self._clock, self._monotonic = clock, monotonic
        self._took = took
        self._opted_out = opted_out
        self._ledger = Ledger()
        self._introductions = Buckets[str](INTRODUCTIONS)
        self._fetching = 0
        self._unkept = 0

    def admits(self, origin: Origin) -> bool:
        """Whether something of it may be looked at now. To be asked first, once for each."""
        sources = self._proven if origin.proven else self._spoofable
        admitted = sources.take(origin.address, self._monotonic())
        if not admitted:
            self._metrics.untaken(Untaken.TOO_MANY)
        return admitted

    async def take(self, raw: bytes, origin: Origin) -> Answered:
        """Raises StoreError: it could not be kept, and may come again."""
        sent = messages.decode(raw)
        if not isinstance(sent, Sent):
            return self._answered(NotTaken(Untaken.NO_MESSAGE), raw)
        while True:
            decision = self._decide(sent, origin)
            if isinstance(decision, KeyNeeded):
                decision = await self._with_key(decision, sent, origin, len(raw))
            if not (isinstance(decision, NotTaken) and decision.reason is Stale.REPLAYED):
                break
            # Whoever says it again is told that we have it: not before that is so. What could not be kept meanwhile,
            # its first copy perhaps, is news again.
            unkept = self._unkept
            await self._store.settled()
            if unkept == self._unkept:
                break
        if isinstance(decision, Taken):
            decision = await self._keep(decision)
        return self._answered(decision, raw)

    def _decide(self, sent: Sent, origin: Origin) -> Decision:
        return self._intake.decide(sent, origin, self._clock(), self._monotonic())

    def _answered(self, decision: Decision, raw: bytes) -> Answered:
        """Smaller than what it answers, or whose address was forged would pay for it: no notice is as small as any of
        these messages."""
        message: Message | None = None
        match decision:
            case Challenged(cookie):
                message = messages.Challenge(cookie)
            case Taken() | NotTaken(Stale.REPLAYED):
                sent = messages.decode(raw)
                assert isinstance(sent, Sent)
                message = self._thanks(messages.digest(sent.signed))
        self._metrics.decided(decision)
        return Answered(decision, message)

    def _thanks(self, digest: str) -> Message:
        if self._opted_out is not None:
            return messages.OptOut(digest, optout.sign(digest, self._opted_out).encode())
        return messages.Taken(digest)

    async def _with_key(self, needed: KeyNeeded, sent: Sent, origin: Origin, size: int) -> Decision:
        self._ledger.received(origin.address, size)
        domain = needed.publisher.domain
        if self._fetching >= MOST_WAITING:
            return NotTaken(Untaken.NO_KEY)
        self._fetching += 1
        try:
            fetched = await self._fetcher.fetch(needed.publisher, lambda least: self._pay(origin.address, least))
        finally:
            self._fetching -= 1
        self._ledger.received(origin.address, fetched.left)
        self._metrics.fetched(fetched.keys)
        if isinstance(fetched.keys, Unfetched):
            return NotTaken(Untaken.TOO_MANY if fetched.keys is Unfetched.TOO_MANY else Untaken.NO_KEY)
        outcome, pins = await self._store.pin(domain, fetched.keys, self._clock())
        self._metrics.pinned(outcome)
        # Where they are changed, the former: it may have been left out here for want of room, and is signed by one.
        self._believed.put(domain, pins)
        decision = self._decide(sent, origin)
        if isinstance(decision, KeyNeeded | Challenged):
            # It publishes keys, and not this one.
            return NotTaken(Untaken.KEY_CHANGED if outcome is Pinning.CHANGED else Untaken.NO_KEY)
        return decision

    def _pay(self, address: Address, least: int) -> int | Unfetched:
        if self._ledger.credit(address) < least:
            return Unfetched.TOO_LARGE
        if not self._introductions.take(prefix(address), self._monotonic()):
            return Unfetched.TOO_MANY
        return self._ledger.draw(address)

    async def _keep(self, taken: Taken) -> Decision:
        try:
            untaken = await self._store.put(taken, self._clock())
        except (JfeError, asyncio.CancelledError):
            self._untake(taken)
            raise
        if untaken is None:
            self._believed.use(taken.publisher.domain, self._clock())
            self._took(taken)
            return taken
        if untaken is not Stale.REPLAYED:
            # Another replica believes its key no longer, perhaps: it is not in the store, and no replay.
            self._untake(taken)
        if untaken is Refused.UNKNOWN_KEY:
            self._believed.forget(taken.publisher.domain)
        return NotTaken(untaken)

    def _untake(self, taken: Taken) -> None:
        self._believed.untake(taken)
        self._unkept += 1
