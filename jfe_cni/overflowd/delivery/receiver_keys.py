"""The keys that receivers want notices sealed to, as they publish them; remembered, and that there is none as well,
where one said so: who was not reached by one way may publish it by another."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.outcomes import Told
from jfe_cni.overflowd.notices.sealing import encryption_key

T = TypeVar("T")

KEPT_SECONDS = 3_600.0
"""A receiver that changes its key opens what is sealed to the former one for longer."""

NONE_KEPT_SECONDS = 86_400.0
"""Most have none, and are not asked more than once a day."""

SILENCE_KEPT_SECONDS = 300.0
"""Of who did not answer: so long no datagram waits for it to be asked again."""

_MOST = 16_384


class ReceiverKeys:
    """`clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Address, tuple[float, OKPKey | None]] = OrderedDict()
        self._silent: OrderedDict[Address, float] = OrderedDict()

    def is_known(self, address: Address) -> bool:
        """Whether it need not be asked."""
        found = self._known.get(address)
        return found is not None and found[0] > self._clock()

    def is_silent(self, address: Address) -> bool:
        """Whether it has not answered of late."""
        return self._silent.get(address, 0.0) > self._clock()

    async def of(self, address: Address, published: Callable[[], Awaitable[object]]) -> OKPKey | Told | None:
        """`published`: asks for its JWK set, where it must be. `Told`: it has not answered."""
        if not self.is_known(address):
            found = await published()
            if isinstance(found, Told):
                _remember(self._silent, address, self._clock() + SILENCE_KEPT_SECONDS)
                return found
            key = encryption_key(found)
            until = self._clock() + (NONE_KEPT_SECONDS if key is None else KEPT_SECONDS)
            _remember(self._known, address, (until, key))
        return self._known[address][1]


def _remember(of: OrderedDict[Address, T], address: Address, value: T) -> None:
    of[address] = value
    of.move_to_end(address)
    while len(of) > _MOST:
        of.popitem(last=False)
