"""One transaction after another on the head, an item that all replicas share: what was read is written upon only where
the head's version is still what it was. So that the count, the log's next entry and the idempotency key are one write.

Where the answer to a write is lost, whether it was done shows as soon as the head has another version: the entry that
it would have written is in the log, by number and hash, or never can be.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jfe_cni.errors import StoreError
from jfe_cni.ratelock.budgets import Microseconds
from jfe_cni.ratelock.log import GENESIS, chained
from jfe_cni.ratelock.store import LogEntry, OwnerAct
from jfe_cni.ratelock.stores.clock import Clock, Moment
from jfe_cni.ratelock.stores.dynamodb.items import HEAD, LAYOUT, Item, Value, log_item, log_key
from jfe_cni.ratelock.stores.dynamodb.table import MOST_WRITES, Table, Write

Answer = TypeVar("Answer")

# Others' transactions come between as long as there are others. Pauses double from the shortest to the longest, each
# cut at random: half of the sum is some six seconds, below the time a request may take.
_TRIES = 30
_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True)
class Head:
    """`version` 0: nothing was ever written."""

    version: int
    number: int
    hash: bytes
    last: Moment


@dataclass(frozen=True)
class Timing:
    """`spread`: how much later than `moment` it may be."""

    moment: Moment
    spread: Microseconds


@dataclass(frozen=True)
class _Doubt(Generic[Answer]):
    version: int
    entry: LogEntry
    answer: Answer


class Transaction:
    """What is appended and written is sent together, at its end. Reads see what was there before."""

    def __init__(self, table: Table, head: Head, timing: Timing) -> None:
        self.table = table
        self.head = head
        self.timing = timing
        self._entries: list[LogEntry] = []
        self._writes: list[Write] = []
        self._advances = False

    @property
    def now(self) -> Microseconds:
        return self.timing.moment.at

    @property
    def room(self) -> int:
        """How many writes there is still room for, the head's own apart."""
        return MOST_WRITES - 1 - len(self._entries) - len(self._writes)

    @property
    def last_entry(self) -> LogEntry | None:
        return self._entries[-1] if self._entries else None

    @property
    def writes(self) -> bool:
        """Whether there is something to write; a clock's new boot is."""
        new_boot = self.timing.moment.boot_id != self.head.last.boot_id
        return bool(self._advances or self._entries or self._writes or new_boot or self.head.version == 0)

    def advance(self) -> None:
        """The head is written, if nothing else is."""
        self._advances = True

    def append(self, act: OwnerAct) -> LogEntry:
        last = self.last_entry
        number, previous = (last.number, last.hash) if last is not None else (self.head.number, self.head.hash)
        entry = chained(previous, number + 1, self.now, act)
        self._entries.append(entry)
        return entry

    def write(self, write: Write) -> None:
        self._writes.append(write)

    def sent(self) -> list[Write]:
        last = self.last_entry
        head: dict[str, Value | None] = {
            **HEAD,
            "layout": LAYOUT,
            "version": self.head.version + 1,
            "number": self.head.number if last is None else last.number,
            "hash": self.head.hash if last is None else last.hash,
            **vars(self.timing.moment),
        }
        first = self.head.version == 0
        advanced = self.table.put_new(head) if first else self.table.put_version(head, self.head.version)
        return [advanced, *(self.table.put_new(log_item(entry)) for entry in self._entries), *self._writes]


class Ledger:
    """For one thread at a time. `version`: as the last transaction left it; -1 where that is not known."""

    def __init__(self, table: Table, clock: Clock, *, spreads: bool) -> None:
        """`spreads`: whether the clock is the server's, known to some spread only."""
        self._table = table
        self._clock = clock
        self._spreads = spreads
        self._random = random.SystemRandom()
        self.version = -1

    def transact(self, work: Callable[[Transaction], Answer]) -> Answer:
        """What `work` returns, when it is durable; it may be called several times. What it raises has changed nothing.
        Raises StoreError."""
        doubts: list[_Doubt[Answer]] = []
        for tried in range(_TRIES):
            time.sleep(self._pause(tried))
            head = self.head()
            for doubt in doubts:
                if doubt.version < head.version and self._is_in_log(doubt.entry):
                    self.version = -1
                    return doubt.answer
            transaction = Transaction(self._table, head, self.timing(head))
            answer = work(transaction)
            if not transaction.writes:
                self.version = head.version
                return answer
            written = self._table.transact(transaction.sent())
            if written == "done":
                self.version = head.version + 1
                return answer
            self.version = -1
            if written == "not known" and transaction.last_entry is not None:
                doubts.append(_Doubt(head.version, transaction.last_entry, answer))
        raise StoreError(
            "DynamoDB does not take a change, be it for others' or for trouble of its own",
            remedy="try again; with many replicas, spread over several tables what need not be counted together",
        )

    def head(self) -> Head:
        """Raises StoreError: no such table, or a newer release's, among others."""
        found = self._table.get(HEAD)
        if found is None:
            return Head(0, 0, GENESIS, Moment(0))
        return _head(found)

    def timing(self, head: Head) -> Timing:
        dates = self._table.dates
        earliest, spread = dates.now() if dates.known else (0, 0)
        moment = self._clock.moment(head.last, earliest)
        return Timing(moment, spread if self._spreads else 0)

    def _is_in_log(self, entry: LogEntry) -> bool:
        found = self._table.get(log_key(entry.number))
        return found is not None and found["hash"] == entry.hash

    def _pause(self, tried: int) -> float:
        if tried == 0:
            return 0.0
        return self._random.uniform(0, min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0**tried))


def _head(found: dict[str, Any] | Item) -> Head:
    held: dict[str, Any] = dict(found)
    if held["layout"] > LAYOUT:
        # Not RequestError: it may become so, under a replica that runs, and no caller of it is at fault.
        raise StoreError("the table is a newer release's", remedy="run that release, or restore a backup that is older")
    return Head(
        held["version"],
        held["number"],
        held["hash"],
        Moment(held["at"], held["boot_id"], held["boottime"], held["wall"]),
    )
