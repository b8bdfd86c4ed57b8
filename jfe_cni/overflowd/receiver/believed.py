"""The keys that are believed, and what is remembered of each: as the store has them, held in memory."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.receiver.freshness import MOST_REMEMBERED, Freshness, Remembered
from jfe_cni.overflowd.receiver.intake import Taken
from jfe_cni.overflowd.receiver.kept import Pin
from jfe_cni.overflowd.receiver.pins import MOST_REPORTERS, Keys, crowded_out
from jfe_cni.overflowd.receiver.store import Store


class Believed:
    """`keys`, `freshness`: for `Intake`, kept up to date."""

    def __init__(self, most: int = MOST_REPORTERS, remembered: int = MOST_REMEMBERED) -> None:
        """`remembered`: notices, in all."""
        self.keys: dict[str, Keys] = {}
        self.freshness: dict[tuple[str, str], Freshness] = {}
        self._used: dict[str, Microseconds] = {}
        self._looked: dict[str, Microseconds] = {}
        self._most = most
        self._remembered = Remembered(secrets.token_bytes(32), remembered)

    async def load(self, store: Store) -> None:
        """Of an earlier run, and of other replicas. What these took is not remembered here: the store knows it, and
        keeps nothing twice. Raises StoreError."""
        for domain, pins in (await store.pins()).items():
            self.put(domain, pins)

    def put(self, domain: str, pins: Mapping[str, Pin]) -> None:
        """In the place of what was believed of that domain, and of whoever there is no room for then."""
        for each in crowded_out(domain, self._used, self._most):
            self.forget(each)
        former = self.keys.get(domain, {})
        for name in former.keys() - pins.keys():
            del self.freshness[domain, name]
        for name in pins.keys() - former.keys():
            self.freshness[domain, name] = Freshness(domain, self._remembered, pins[name].forgotten)
        self.keys[domain] = {name: pin.key for name, pin in pins.items()}
        self._used[domain] = max((pin.used for pin in pins.values()), default=0)
        self._looked[domain] = max((pin.looked for pin in pins.values()), default=0)

    def use(self, domain: str, at: Microseconds) -> None:
        """A notice of it was kept."""
        if domain in self._used:
            self._used[domain] = at

    def looked(self, domain: str) -> Microseconds | None:
        """When it was seen last what it publishes. None: nothing is believed of it."""
        return self._looked.get(domain)

    def forget(self, domain: str) -> None:
        """It is asked for its keys when it is next heard of."""
        self._used.pop(domain, None)
        self._looked.pop(domain, None)
        for name in self.keys.pop(domain, {}):
            del self.freshness[domain, name]

    def untake(self, taken: Taken) -> None:
        self._remembered.untake(taken.publisher.domain, taken.notice)
