"""The keys that receivers want notices sealed to, as they publish them; remembered, and that there is none as well."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.notices.sealing import encryption_key

KEPT_SECONDS = 3_600.0
"""A receiver that changes its key opens what is sealed to the former one for longer."""

NONE_KEPT_SECONDS = 86_400.0
"""Most have none, and are not asked more than once a day."""

_MOST = 16_384


class ReceiverKeys:
    """`clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Address, tuple[float, OKPKey | None]] = OrderedDict()

    def is_known(self, address: Address) -> bool:
        """Whether it need not be asked."""
        found = self._known.get(address)
        return found is not None and found[0] > self._clock()

    async def of(self, address: Address, published: Callable[[], Awaitable[object]]) -> OKPKey | None:
        """`published`: asks for its JWK set, where it must be."""
        if not self.is_known(address):
            key = encryption_key(await published())
            until = self._clock() + (NONE_KEPT_SECONDS if key is None else KEPT_SECONDS)
            self._known[address] = (until, key)
            self._known.move_to_end(address)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return self._known[address][1]
